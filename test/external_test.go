//go:build linux

package test

import (
	"path/filepath"
	"testing"
)

// TestAClientOfTheOriginalsDiscoverySeesAgents has an agent on one host, and on
// the other what the original's masters and workers find each other with.
func TestAClientOfTheOriginalsDiscoverySeesAgents(t *testing.T) {
	need(t, "node")
	t.Parallel()
	l := newLab(t)
	hosts := l.hosts(2)
	script, err := filepath.Abs("scdiscovery/client.js")
	if err != nil {
		t.Fatal(err)
	}
	a := hosts[0].agent("-name", "n1")
	cmd := hosts[1].Command("node", script, "udp", "10.77.0.2", "44201", "3000", `{"id":"svc9","name":"worker","data":{"port":77},"available":true}`)
	in, err := cmd.StdinPipe() // it ends with its standard input
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	client := start(t, cmd)
	client.out.await(t, `"event":"available"`, `"id":"worker:`+a.member("n1").ID+`"`)
	var seen member
	eventually(t, patience, "the client is listed as external", func() (bool, any) {
		seen = a.member("worker")
		return seen.Status == "external", seen
	})
	if seen.ID != "svc9" || seen.Addr != "10.77.0.2" || seen.Port != 77 {
		t.Errorf("the client is listed as %+v, want svc9 at 10.77.0.2:77", seen)
	}
	a.call("submit", "-all", "--", "echo", "hi").want(t, 0, "n1: hi\n")
	a.kill()
	client.out.await(t, `"event":"unavailable"`, `"id":"worker:`)
}
