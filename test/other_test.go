//go:build !linux

package test

import "testing"

func TestClusters(t *testing.T) {
	t.Skip("SKIPPED: tests of whole clusters need Linux: network namespaces")
}
