package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
)

// benchNodes returns n nodes with documents as json.Decoder makes them.
func benchNodes(tb testing.TB, n int, useNumber bool) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		facts := fmt.Sprintf(`{"os":"linux","arch":"amd64","cpus":%d,"memory":%d,"kernel":"6.1"}`, 1+i%64, 1<<30+i)
		data := fmt.Sprintf(`{"gpu":%q,"rack":"r%d","ssd":%t,"labels":{"zone":"z%d"}}`, []string{"a100", "h100", "none"}[i%3], i%40, i%2 == 0, i%4)
		if i%5 == 0 {
			data = `{}`
		}
		nodes[i] = Node{Name: fmt.Sprintf("node-%05d", i), Role: []string{"worker"}, Slots: 4, Free: i % 5, Known: true,
			Data: decode(tb, data, useNumber), Facts: decode(tb, facts, useNumber)}
	}
	return nodes
}

func decode(tb testing.TB, s string, useNumber bool) any {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	if useNumber {
		d.UseNumber()
	}
	var x any
	if err := d.Decode(&x); err != nil {
		tb.Fatalf("decode %s: %v", s, err)
	}
	return x
}

func BenchmarkMatch(b *testing.B) {
	const count = 10_000
	for _, q := range []struct{ name, source string }{
		{"terms=2", `data.gpu == "a100" and facts.cpus >= 8`},
		{"terms=4", `facts.os == "linux" and facts.cpus >= 2 and data.labels.zone in ["z0", "z1", "z2"] and (free > 0 or not data.ssd)`},
		{"has", `has(data.gpu) and "worker" in role`},
		{"matches", `name matches "^node-0*1"`},
	} {
		for _, form := range []string{"maps", "packed"} {
			b.Run(fmt.Sprintf("%s/nodes=%d/%s", q.name, count, form), func(b *testing.B) {
				nodes := benchNodes(b, count, true)
				for i := range nodes {
					if form == "packed" {
						nodes[i] = *packed(b, &nodes[i])
					}
				}
				query, err := Compile(q.source)
				if err != nil {
					b.Fatal(err)
				}
				matched := 0
				b.ReportAllocs()
				for b.Loop() {
					matched = 0
					for i := range nodes {
						if query.Match(&nodes[i]) == True {
							matched++
						}
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/node")
				b.ReportMetric(float64(matched), "matches")
			})
		}
	}
}

// BenchmarkPlainGo is the query of terms=4 as one would write it by hand: what
// BenchmarkMatch is to be measured against, in the same run.
func BenchmarkPlainGo(b *testing.B) {
	const count = 10_000
	nodes := benchNodes(b, count, false)
	for b.Loop() {
		matched := 0
		for i := range nodes {
			n := &nodes[i]
			facts, _ := n.Facts.(map[string]any)
			data, _ := n.Data.(map[string]any)
			if facts["os"] != "linux" {
				continue
			}
			if cpus, _ := facts["cpus"].(float64); cpus < 2 {
				continue
			}
			labels, _ := data["labels"].(map[string]any)
			if zone, _ := labels["zone"].(string); zone != "z0" && zone != "z1" && zone != "z2" {
				continue
			}
			if ssd, ok := data["ssd"].(bool); n.Free > 0 || ok && !ssd {
				matched++
			}
		}
		if matched != 5875 {
			b.Fatalf("%d nodes match", matched)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/node")
}

func BenchmarkExplain(b *testing.B) {
	nodes := benchNodes(b, 10_000, false)
	q, err := Compile(`data.gpu == "b200" and facts.cpus >= 8`)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if q.Explain("worker", nodes) == "" {
			b.Fatal("no explanation")
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(`facts.os == "linux" and facts.cpus >= 2 and data.gpu == "a100" and (free > 0 or not data.ssd)`); err != nil {
			b.Fatal(err)
		}
	}
}
