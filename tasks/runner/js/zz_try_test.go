package js
import ("testing";"bytes";"context";"encoding/json";"os";"fmt";"bufio";"github.com/scagent/scagent/tasks";"time")
func TestTry(t *testing.T) {
	f, _ := os.Open("/tmp/jsx/cases"); sc := bufio.NewScanner(f); r := New(Config{})
	for sc.Scan() {
		var c []json.RawMessage
		if err := json.Unmarshal(sc.Bytes(), &c); err != nil { t.Fatal(err, sc.Text()) }
		var src string; json.Unmarshal(c[0], &src)
		var so, se bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		b := time.Now()
		o := r.Run(ctx, &tasks.Attempt{Task:&tasks.Task{Kind:"js",Source:src,Args:c[1:]},Stdout:&so,Stderr:&se})
		cancel()
		v := string(o.Value); if len(v)>200 {v=v[:200]}
		fmt.Printf("--- %.100s\n    %v %q value=%s %v\n    out=%.300q\n    err=%.500q\n", src, o.Code, o.Text, v, time.Since(b).Round(time.Millisecond), so.String(), se.String())
	}
}
