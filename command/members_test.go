package command

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/api"
)

var someMembers = []api.Member{
	{ID: "b", Name: "n2", Addr: "10.0.0.2", Port: 44201, Roles: []string{"worker", "master"}, Status: "alive", Available: true, Slots: 4, Busy: 1,
		Data: json.RawMessage(`{"gpu": "a100"}`), Facts: json.RawMessage(`{"cpus": 4}`)},
	{ID: "c", Name: "t\x1b[2J", Addr: "fe80::1", Port: 80, Roles: []string{"tracker"}, Status: "suspect", Data: json.RawMessage("{}")},
	{ID: "a", Name: "n1", Addr: "10.0.0.1", Port: 44201, Roles: []string{"worker"}, Status: "failed", Slots: 2, Facts: json.RawMessage(`{"cpus": 8}`),
		Data: json.RawMessage(`"` + strings.Repeat("é", 200) + `"`)},
}

func TestMembersTable(t *testing.T) {
	got := formatMembers((&membersOptions{}).pick(someMembers))
	want := `NAME      ADDRESS         ROLES          STATUS   SLOTS  AVAILABLE  DATA
n1        10.0.0.1:44201  worker         failed   0/2    no         "` + strings.Repeat("é", 99) + `…
n2        10.0.0.2:44201  worker,master  alive    1/4    yes        {"gpu":"a100"}
t\x1b[2J  [fe80::1]:80    tracker        suspect  -      -          -
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestMembersArePicked(t *testing.T) {
	for args, want := range map[string]string{
		"":                                    "n1 n2 t\x1b[2J",
		"-role worker":                        "n1 n2",
		"-role master,tracker":                "n2 t\x1b[2J",
		"-status alive":                       "n2",
		"-status alive,failed -role worker":   "n1 n2",
		"-where facts.cpus>=8":                "n1",
		"-where free>2":                       "n2",
		"-where has(data.gpu)":                "n2",
		"-where data.gpu!=\"x\"":              "n2",
		"-where not(\"worker\"in(role))":      "t\x1b[2J",
		"-where facts.cpus>1000 -status left": "",
	} {
		o, err := parseMembers(strings.Fields(args))
		if err != nil {
			t.Errorf("members %s: %v", args, err)
			continue
		}
		var names []string
		for _, m := range o.pick(someMembers) {
			names = append(names, m.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("members %s = %q, want %q", args, got, want)
		}
	}
}
