package wire

import (
	"encoding/binary"
	"time"

	"github.com/scagent/scagent/tasks"
)

// appendResult appends the frame of a result; see doc.go for the layout.
func appendResult(b []byte, k Key, o *tasks.Outcome) []byte {
	b, at := begin(b, typeResult)
	return end(AppendOutcome(appendKey(b, k), o), at)
}

// AppendOutcome appends the form in which o travels and is kept. Times go as Unix
// nanoseconds, 0 for the zero time.
func AppendOutcome(b []byte, o *tasks.Outcome) []byte {
	b = append(b, byte(o.Code), byte(o.Encoding))
	b = appendTime(b, o.Started)
	b = appendTime(b, o.Finished)
	b = binary.AppendVarint(b, int64(o.Exit))
	b = appendPositive(b, int64(o.User))
	b = appendPositive(b, int64(o.System))
	b = appendPositive(b, o.MaxRSS)
	b = appendPositive(b, o.StdoutBytes)
	b = appendPositive(b, o.StderrBytes)
	b = appendText(b, o.Signal)
	b = appendText(b, o.Text)
	b = appendBytes(b, o.Value)
	b = binary.AppendUvarint(b, uint64(len(o.Outputs)))
	for i := range o.Outputs {
		f := &o.Outputs[i]
		b = appendText(b, f.Name)
		b = binary.AppendUvarint(b, uint64(f.Mode))
		b = appendContent(b, &f.Content)
	}
	b = binary.AppendUvarint(b, uint64(len(o.Steps)))
	for _, s := range o.Steps {
		b = binary.AppendVarint(appendText(appendText(b, s.Stage), s.Command), int64(s.Exit))
		b = appendText(b, s.Signal)
	}
	return b
}

// decodeResult fills o, whose byte slices then alias b.
func decodeResult(b []byte, k *Key, o *tasks.Outcome) bool {
	d := decoder{b: b}
	*k = d.key()
	d.outcome(o)
	return d.done()
}

// DecodeOutcome reads what AppendOutcome wrote into o, whose byte slices then alias
// b, and reports whether that is what b is.
func DecodeOutcome(b []byte, o *tasks.Outcome) bool {
	d := decoder{b: b}
	d.outcome(o)
	return d.done()
}

func (d *decoder) outcome(o *tasks.Outcome) {
	o.Code = tasks.Code(d.u8())
	o.Encoding = tasks.Encoding(d.u8())
	o.Started = d.time()
	o.Finished = d.time()
	o.Exit = int(d.signed())
	o.User = time.Duration(d.positive())
	o.System = time.Duration(d.positive())
	o.MaxRSS = d.positive()
	o.StdoutBytes = d.positive()
	o.StderrBytes = d.positive()
	o.Signal = d.text()
	o.Text = d.text()
	o.Value = d.bytes()
	o.Outputs = list(d, minFileBytes, func() tasks.OutputFile {
		return tasks.OutputFile{Name: d.text(), Mode: d.mode(), Content: d.content()}
	})
	o.Steps = list(d, minStepBytes, func() tasks.Step {
		return tasks.Step{Stage: d.text(), Command: d.text(), Exit: int(d.signed()), Signal: d.text()}
	})
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.BigEndian.AppendUint64(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
}

func (d *decoder) time() time.Time {
	v := int64(d.u64())
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, v)
}
