package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

func (h *handler) info(w http.ResponseWriter, r *http.Request) error {
	writeJSON(w, http.StatusOK, h.b.Info())
	return nil
}

func (h *handler) members(w http.ResponseWriter, r *http.Request) error {
	ms := h.b.APIMembers()
	if ms == nil {
		ms = []Member{}
	}
	writeJSON(w, http.StatusOK, ms)
	return nil
}

func (h *handler) setAvailable(w http.ResponseWriter, r *http.Request) error {
	var req AvailableRequest
	if err := h.decode(w, r, maxSmallBody, &req); err != nil {
		return err
	}
	if req.Available == nil {
		return badRequest("available is missing; want true or false")
	}
	if err := h.b.SetAvailable(*req.Available); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, req)
	return nil
}

func (h *handler) setData(w http.ResponseWriter, r *http.Request) error {
	var data json.RawMessage
	err := h.decode(w, r, maxDataBody, &data, "")
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &Error{CodeDataTooLarge, "the data is larger than 1 MiB; keep it to what tasks are picked by", http.StatusRequestEntityTooLarge}
	}
	if err != nil {
		return err
	}
	if err := h.b.SetData(data); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

func (h *handler) drain(w http.ResponseWriter, r *http.Request) error {
	if err := noBody(r); err != nil {
		return err
	}
	http.NewResponseController(w).SetWriteDeadline(time.Time{}) // where there is one: it takes as long as the tasks
	if err := h.b.Drain(r.Context()); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

func (h *handler) join(w http.ResponseWriter, r *http.Request) error {
	var req JoinRequest
	if err := h.decode(w, r, maxSmallBody, &req); err != nil {
		return err
	}
	if len(req.Addrs) == 0 {
		return badRequest("addrs is missing; want a list of addresses such as 10.0.0.7:44201")
	}
	n, err := h.b.Join(r.Context(), req.Addrs...)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, Joined{n})
	return nil
}

func (h *handler) leave(w http.ResponseWriter, r *http.Request) error {
	if err := noBody(r); err != nil {
		return err
	}
	if err := h.b.Leave(r.Context()); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

func (h *handler) putBlob(w http.ResponseWriter, r *http.Request) error {
	body := &bodyReader{r: r.Body}
	hash, size, err := h.b.PutBlob(r.Context(), body)
	if body.err != nil {
		return badRequest("the content did not arrive whole: %v", body.err)
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, Blob{hash, size})
	return nil
}

// bodyReader remembers the client's error, to tell it from those of the store.
type bodyReader struct {
	r   io.Reader
	err error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func (h *handler) getBlob(w http.ResponseWriter, r *http.Request) error {
	hash := r.PathValue("hash")
	if !blobName.MatchString(hash) {
		return badRequest("the hash is %.80q; want 64 hexadecimal digits in lower case", hash)
	}
	f, _, err := h.b.OpenBlob(hash)
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("ETag", `"`+hash+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", "attachment")
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}
