package agent_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

// talker is a function that writes "one" and, when it is let, the rest.
type talker struct {
	let  chan struct{}
	rest []byte
}

func newTalker(rest string) *talker { return &talker{make(chan struct{}), []byte(rest)} }

func (*talker) FuncName() string { return "talk" }

func (k *talker) Handler() tasks.Handler {
	return func(ctx context.Context, a *tasks.Attempt, _ []byte, _ tasks.Encoding) ([]byte, error) {
		io.WriteString(a.Stdout, "one\n")
		io.WriteString(a.Stderr, "err\n")
		select {
		case <-k.let:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		_, err := a.Stdout.Write(k.rest)
		return []byte("7"), err
	}
}

// talking is a cluster of three, in which the first has a task that talks on the third.
func talking(t *testing.T, k *talker, opts ...any) (c *agenttest.Cluster, run, task tasks.ID) {
	t.Helper()
	c = agenttest.New(t, 3, append(opts, agenttest.Setup(func(_ int, a *agent.Agent) { a.Handle(k) }))...)
	c.WaitMembers(t)
	r, err := c.Agent(1).Submit(t.Context(), submission(tasks.Task{Kind: tasks.Function, Name: "talk"}, tasks.On("n3")))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // of the bubble: it has started, and said so
	return c, r.ID(), r.Tasks()[0].ID
}

// local is a client of the i-th agent's local API.
func local(t *testing.T, c *agenttest.Cluster, i int) *client.Client {
	cl := client.ForHandler(c.Agent(i).APIHandler())
	t.Cleanup(cl.Close)
	return cl
}

// said reads a stream to its end: what was written, and how it ended.
func said(t *testing.T, s *client.Stream, err error) (out string, result *api.TaskStatus) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		e, err := s.Next()
		if err == io.EOF {
			return out, result
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == api.StreamOutput {
			out += e.Stream + ":" + string(e.DataBase64)
		}
		if e.Result != nil {
			result = e.Result
		}
	}
}

// hasCode checks that an error is one of the API.
func hasCode(t *testing.T, err error, status int, code string, words ...string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != code || e.Status != status {
		t.Errorf("error is %v, want %d %s", err, status, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(e.Message, w) {
			t.Errorf("message is %q, want it to say %q", e.Message, w)
		}
	}
}

func TestAnyAgentKnowsATaskByItsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTalker("two\n")
		c, run, id := talking(t, k)
		cl := local(t, c, 2)
		if st, err := cl.Task(t.Context(), id); err != nil || st.State != tasks.StateRunning || st.Worker != "n3" || st.Attempt != 1 {
			t.Errorf("Task = %+v, %v; want it running on n3", st, err)
		}
		if st, err := cl.RunTasks(t.Context(), run); err != nil || st.Run != run || len(st.Tasks) != 1 || st.Tasks[0].ID != id {
			t.Errorf("RunTasks = %+v, %v", st, err)
		}
		if list, err := cl.Tasks(t.Context(), client.Filter{}); err != nil || len(list) != 0 {
			t.Errorf("n2 lists %v, %v; want its own tasks alone, which are none", list, err)
		}
		stream, err := cl.PeekRun(t.Context(), run)
		if out, result := said(t, stream, err); out != "stdout:one\nstderr:err\n" || result != nil {
			t.Errorf("by now it has written %q and ended as %v", out, result)
		}
		waits := make(chan *api.TaskStatus)
		go func() {
			stream, err := cl.AwaitRun(t.Context(), id)
			out, result := said(t, stream, err)
			if out != "" {
				t.Errorf("who only waits is told %q", out)
			}
			waits <- result
		}()
		follows := make(chan string)
		go func() {
			stream, err := cl.FollowRun(t.Context(), id)
			out, result := said(t, stream, err)
			if result == nil || result.State != tasks.StateDone || string(result.Result) != "7" {
				t.Errorf("it ended as %+v", result)
			}
			follows <- out
		}()
		raw, err := cl.Output(t.Context(), id, "stdout", true)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // longer than any request may take
		synctest.Wait()
		close(k.let)
		if b, err := io.ReadAll(raw); err != nil || string(b) != "one\ntwo\n" {
			t.Errorf("output = %q, %v", b, err)
		}
		raw.Close()
		if out := <-follows; out != "stdout:one\nstderr:err\nstdout:two\n" {
			t.Errorf("a follower is told %q", out)
		}
		if st := <-waits; st == nil || st.State != tasks.StateDone {
			t.Errorf("who waits is told %+v", st)
		}
		if st, err := cl.Task(t.Context(), id); err != nil || st.State != tasks.StateDone || st.Stdout == nil || *st.Stdout != "one\ntwo\n" {
			t.Errorf("Task = %+v, %v; want it done", st, err)
		}
	})
}

func TestAnyAgentCancelsATaskByItsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, run, id := talking(t, newTalker(""))
		cl := local(t, c, 3)
		if n, err := cl.Cancel(t.Context(), run, tasks.StopCancel); n != 1 || err != nil {
			t.Fatalf("Cancel = %d, %v", n, err)
		}
		stream, err := cl.AwaitRun(t.Context(), id)
		if _, st := said(t, stream, err); st == nil || st.State != tasks.StateCancelled {
			t.Errorf("it ended as %+v", st)
		}
		if n, err := cl.Cancel(t.Context(), run, tasks.StopKill); n != 0 || err != nil {
			t.Errorf("Cancel of what has ended = %d, %v", n, err)
		}
	})
}

func TestIDsThatNobodyKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, id := talking(t, newTalker(""))
		cl := local(t, c, 2)
		other := id
		other[15] ^= 0x40
		nobody := id
		nobody[0] ^= 1
		for _, ask := range []func(tasks.ID) error{
			func(id tasks.ID) error { _, err := cl.Task(t.Context(), id); return err },
			func(id tasks.ID) error { _, err := cl.FollowRun(t.Context(), id); return err },
			func(id tasks.ID) error { _, err := cl.Output(t.Context(), id, "stdout", true); return err },
			func(id tasks.ID) error { _, err := cl.Cancel(t.Context(), id, tasks.StopCancel); return err },
		} {
			hasCode(t, ask(other), 404, api.CodeUnknownTask, other.String(), id.Owner())
			hasCode(t, ask(nobody), 404, api.CodeOwnerAway, nobody.String(), nobody.Owner(), "not in the pool now", "when it is back")
		}
		w := httptest.NewRecorder()
		c.Agent(2).APIHandler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/tasks/x", nil))
		if w.Code != 400 || !strings.Contains(w.Body.String(), api.CodeBadID) {
			t.Errorf("what is no id is answered %d %s", w.Code, w.Body)
		}
		w = httptest.NewRecorder()
		c.Agent(2).APIHandler().ServeHTTP(w, httptest.NewRequest("GET", "/v1/tasks/"+id.String()+"/output?stream=stdin", nil))
		if w.Code != 400 || !strings.Contains(w.Body.String(), "want stdout or stderr") {
			t.Errorf("what the owner refuses is answered %d %s", w.Code, w.Body)
		}

		before := c.Agent(1).Self().ID
		c.Kill(1)
		if !strings.HasPrefix(before, id.Owner()) {
			t.Fatalf("the owner of %s is %s", id, before)
		}
		time.Sleep(time.Minute) // until it has failed
		_, err := cl.Task(t.Context(), id)
		hasCode(t, err, 503, api.CodeOwnerAway, "task "+id.String(), "node "+id.Owner(), "not in the pool now; its tasks go on when it is back")
	})
}

// A node that is cut off neither keeps who follows waiting, nor, as one who
// follows, the task.
func TestAFollowedNodeThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTalker(strings.Repeat("x", 8<<20))
		c, _, id := talking(t, k)
		stream, err := local(t, c, 2).FollowRun(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		time.Sleep(time.Second)
		c.Cut(2, 1)
		c.Cut(2, 3)
		late := make(chan error)
		go func() {
			_, err := local(t, c, 2).Task(t.Context(), id)
			late <- err
		}()
		close(k.let)
		if st, err := c.Agent(1).Task(id); err != nil || st.State != tasks.StateRunning {
			t.Fatalf("right after the cut: %+v, %v", st.State, err)
		}
		for err == nil {
			_, err = stream.Next()
		}
		if !strings.Contains(err.Error(), "hung up") {
			t.Errorf("who follows is told %v, want that the agent hung up", err)
		}
		hasCode(t, <-late, 503, api.CodeOwnerAway, "not in the pool now")
		time.Sleep(time.Minute)
		if st, err := c.Agent(1).Task(id); err != nil || st.State != tasks.StateDone {
			t.Errorf("a minute after the cut: %+v, %v; want done", st.State, err)
		}
	})
}

func TestATaskWaitsForWhoFollowsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTalker(strings.Repeat("x", 64<<20))
		c, _, id := talking(t, k)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := local(t, c, 2).FollowRun(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		close(k.let)
		time.Sleep(5 * time.Minute)
		if st, err := c.Agent(1).Task(id); err != nil || st.State != tasks.StateRunning {
			t.Fatalf("not read for five minutes: %v, %v; want running", st.State, err)
		}
		cancel()
		time.Sleep(5 * time.Second)
		if st, err := c.Agent(1).Task(id); err != nil || st.State != tasks.StateDone || st.StdoutCut == 0 {
			t.Errorf("nobody follows any more: %v, %v; want done", st.State, err)
		}
		stream, err = local(t, c, 3).PeekRun(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		for {
			e, err := stream.Next()
			if err != nil {
				t.Fatalf("no output with what was cut: %v", err)
			}
			if e.Stream == "stdout" {
				if e.CutBytes == 0 || e.CutBytes+int64(len(e.DataBase64)) != 64<<20+4 {
					t.Errorf("%d bytes, and %d cut", len(e.DataBase64), e.CutBytes)
				}
				break
			}
		}
	})
}

// What an agent is asked by another is not passed on again, and nobody who may not
// submit asks.
func TestWhoIsAskedBySomeoneElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, id := talking(t, newTalker(""))
		dial := c.Dialer(2, 3)
		for _, r := range []struct{ head, want string }{
			{"GET /scagent/v1/tasks/" + id.String() + " HTTP/1.1\r\nHost: x\r\n", "404"},
			{"GET /scagent/v1/info HTTP/1.1\r\nHost: x\r\n", "404"},
			{"GET /scagent/v1/tasks HTTP/1.1\r\nHost: x\r\n", "307"}, // to what there is not
			{"POST /scagent/v1/tasks/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n", "404"},
			{"GET /scagent/v1/runs/" + id.String() + "/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n", "400"},
			{"GET /scagent/v1/runs/" + id.String() + "/events HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\n", "403"},
			{"POST /scagent/v1/tasks/" + id.String() + "/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n", "413"},
		} {
			conn, err := dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go io.WriteString(conn, r.head+"Connection: close\r\n\r\n"+strings.Repeat(" ", 300_000))
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+r.want) {
				t.Errorf("%q is answered %q, %v; want %s", r.head, line, err, r.want)
			}
			conn.Close()
		}
	})
}

func TestASecuredPoolAsksForARightToAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		option, _ := files(t, secret.New(), 3)
		k := newTalker("two\n")
		c, run, id := talking(t, k, option)
		if st, err := local(t, c, 2).Task(t.Context(), id); err != nil || st.State != tasks.StateRunning {
			t.Errorf("Task = %+v, %v; want it running", st, err)
		}
		worker := local(t, c, 3)
		_, err := worker.Task(t.Context(), id)
		hasCode(t, err, 403, "worker_token")
		_, err = worker.Cancel(t.Context(), run, tasks.StopKill)
		hasCode(t, err, 403, "worker_token")
		stream, err := local(t, c, 2).FollowRun(t.Context(), run)
		time.Sleep(time.Second)
		close(k.let)
		if out, st := said(t, stream, err); out != "stdout:one\nstderr:err\nstdout:two\n" || st == nil || st.State != tasks.StateDone {
			t.Errorf("a follower is told %q, %+v", out, st)
		}
	})
}

func TestOwnersOf(t *testing.T) {
	id := tasks.ID{1, 2, 3, 4, 5, 6}
	at := func(name string, status membership.Status, self bool) membership.Member {
		return membership.Member{ID: id.Owner() + name, Status: status, Self: self}
	}
	others := membership.Member{ID: strings.Repeat("z", 26), Status: membership.Alive}
	for _, c := range []struct {
		name    string
		members []membership.Member
		want    []string
		known   bool
	}{
		{"nobody", []membership.Member{others}, nil, false},
		{"one", []membership.Member{others, at("a", membership.Alive, false)}, []string{"a"}, false},
		{"this node", []membership.Member{at("a", membership.Alive, true)}, nil, false},
		{"suspected", []membership.Member{at("a", membership.Suspect, false)}, []string{"a"}, false},
		{"failed", []membership.Member{at("a", membership.Failed, false)}, nil, true},
		{"left", []membership.Member{at("a", membership.Left, false)}, nil, true},
		{"alike", []membership.Member{at("a", membership.Alive, true), at("b", membership.Alive, false), at("c", membership.Failed, false), at("d", membership.Alive, false)}, []string{"b", "d"}, true},
	} {
		got, known := agent.OwnersOf(c.members, id)
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], id.Owner())
		}
		if !slices.Equal(got, c.want) || known != c.known {
			t.Errorf("%s: %v, %t; want %v, %t", c.name, got, known, c.want, c.known)
		}
	}
}

// TestAnswersOfOwners lets nodes answer what they like.
func TestAnswersOfOwners(t *testing.T) {
	id := tasks.ID{1, 2, 3, 4, 5, 6}
	unknown := "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	good := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nSet-Cookie: a=b\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 4\r\n\r\ngood"
	for _, c := range []struct {
		name    string
		answers []string // of the owners; empty: not reached
		status  int
		body    string // what it contains
		asked   int
		broken  bool
	}{
		{"a good one", []string{good}, 200, "good", 1, false},
		{"the second knows", []string{unknown, good}, 200, "good", 2, false},
		{"the first knows", []string{good, unknown}, 200, "good", 1, false},
		{"the second is reached", []string{"", good}, 200, "good", 2, false},
		{"nobody knows", []string{unknown, unknown}, 404, "{}", 2, false},
		{"nobody is reached", []string{""}, 503, "does not answer: no way", 1, false},
		{"an older agent", []string{"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n404"}, 502, "404 Not Found", 1, false},
		{"elsewhere", []string{"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n"}, 502, "302", 1, false},
		{"half of it", []string{"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\ngood"}, 200, "good", 1, true},
		{"a head without end", []string{"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 1<<20)}, 503, "does not answer", 1, false},
		{"no HTTP", []string{"\x00\x1b[2J\r\n"}, 503, "does not answer", 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := agenttest.Loopback(t, 1).Agent(1)
			self := a.Self().ID // is in the pool, as an owner has to be
			var heads []http.Header
			var bodies []string
			dial := func(string) (net.Conn, error) {
				answer := c.answers[len(heads)]
				if answer == "" {
					heads, bodies = append(heads, nil), append(bodies, "")
					return nil, errors.New("no way")
				}
				near, far := net.Pipe()
				read := make(chan struct{})
				go func() {
					defer far.Close()
					r, err := http.ReadRequest(bufio.NewReader(far))
					if err != nil {
						t.Error(err)
						close(read)
						return
					}
					b, _ := io.ReadAll(r.Body)
					heads, bodies = append(heads, r.Header), append(bodies, r.Method+" "+r.RequestURI+" "+string(b))
					close(read)
					io.WriteString(far, answer)
				}()
				return &pipeEnd{Conn: near, read: read}, nil
			}
			r := httptest.NewRequest("POST", "/v1/tasks/"+id.String()+"/cancel?a=b", strings.NewReader(`{"reason":"kill"}`))
			r.Header.Set("Authorization", "Bearer secret")
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Cookie", "c")
			w := httptest.NewRecorder()
			var err error
			broken := func() (broken bool) {
				defer func() {
					if v := recover(); v != nil {
						broken = v == http.ErrAbortHandler
					}
				}()
				owners := slices.Repeat([]string{self}, len(c.answers))
				err = a.AskOwners(w, r, owners, id, dial)
				return false
			}()
			status, body := w.Code, w.Body.String()
			if err != nil {
				e := api.ErrorOf(err)
				status, body = e.Status, e.Message
				if e.Code != api.CodeOwnerAway || w.Body.Len() > 0 {
					t.Errorf("code %s after %q was written", e.Code, w.Body)
				}
			}
			if status != c.status || !strings.Contains(body, c.body) || len(heads) != c.asked || broken != c.broken {
				t.Errorf("%d %q, %d asked, broken off: %t; want %d %q, %d, %t", status, body, len(heads), broken, c.status, c.body, c.asked, c.broken)
			}
			for i, h := range heads {
				want := fmt.Sprintf("POST /scagent/v1/tasks/%s/cancel?a=b {\"reason\":\"kill\"}", id)
				if h != nil && (h.Get("Authorization")+h.Get("Cookie") != "" || h.Get("Scagent-Node") != self || bodies[i] != want) {
					t.Errorf("an owner is asked %q with %v", bodies[i], h)
				}
			}
			for _, name := range []string{"Set-Cookie", "Access-Control-Allow-Origin"} {
				if v := w.Header().Get(name); v != "" {
					t.Errorf("the client is sent %s: %s of the owner", name, v)
				}
			}
		})
	}
}

// pipeEnd is an end of a pipe. It is not read before the other end has read the
// request.
type pipeEnd struct {
	net.Conn
	read chan struct{}
}

func (p *pipeEnd) Read(b []byte) (int, error) {
	<-p.read
	return p.Conn.Read(b)
}

// An agent that closes keeps nobody waiting, neither as the owner nor in between.
func TestClosingEndsWhatIsFollowedElsewhere(t *testing.T) {
	for _, closing := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			c, _, id := talking(t, newTalker(""))
			stream, err := local(t, c, 2).FollowRun(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			told := make(chan error)
			go func() {
				var err error
				for err == nil {
					_, err = stream.Next()
				}
				told <- err
			}()
			synctest.Wait()
			began := time.Now()
			if err := c.Agent(closing).Close(); err != nil {
				t.Errorf("Close of n%d = %v", closing, err)
			}
			if err, took := <-told, time.Since(began); !strings.Contains(err.Error(), "hung up") || took > 5*time.Second {
				t.Errorf("n%d closed: who follows is told %v after %v, want that the agent hung up", closing, err, took)
			}
		})
	}
}
