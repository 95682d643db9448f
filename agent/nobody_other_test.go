//go:build !unix

package agent_test

import "testing"

func asNobody(t *testing.T, _ string) bool {
	t.Skip("this system has no nobody")
	return false
}
