package wire

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
)

// Every type of frame that the source declares says who may send it.
func TestEveryFrameTypeHasASender(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "frame.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := v.Type.(*ast.Ident); !ok || id.Name != "frameType" {
			return true
		}
		for i, name := range v.Names {
			declared++
			value, ok := v.Values[i].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s is not written as a number", name.Name)
			}
			number := frameType(0)
			for _, c := range value.Value {
				number = number*10 + frameType(c-'0')
			}
			if senders[number] == 0 {
				t.Errorf("%s (%d) has no row in senders: who may send it?", name.Name, number)
			}
		}
		return true
	})
	if declared < 17 || declared != len(senders) {
		t.Errorf("%d types are declared, senders has %d rows", declared, len(senders))
	}
}

// frames returns one good frame of each type but hello and close.
func frames() map[frameType][]byte {
	k := testKey(1)
	list := func(t frameType) []byte {
		b, at := begin(nil, t)
		return end(append(b, 0), at)
	}
	one := func(t frameType, more ...byte) []byte {
		b, at := begin(nil, t)
		return end(append(appendKey(b, k), more...), at)
	}
	return map[frameType][]byte{
		typePing: appendPing(nil, &ping{stamp: 1}), typeOffer: appendOffer(nil, &Offer{Key: k, Slots: 1}),
		typeGrant: one(typeGrant), typeWindow: one(typeWindow, 0, 0, 0, 1), typeAck: list(typeAck), typeCancel: one(typeCancel, 1),
		typeRecall: list(typeRecall), typeReattach: list(typeReattach),
		typeAccept: one(typeAccept, 0), typeReject: one(typeReject, 1), typeStarted: one(typeStarted), typeOutput: one(typeOutput, 1, 'x'),
		typeResult: appendResult(nil, k, &tasks.Outcome{}), typeGivenBack: list(typeGivenBack), typeState: list(typeState),
	}
}

// A node may send exactly what its rights allow; anything else ends the link.
func TestRightsAreEnforced(t *testing.T) {
	for _, rights := range []Rights{Member, Member | Work, Member | Submit, AllRights} {
		for typ, frame := range frames() {
			inBed(t, func(t *testing.T, b *bed) {
				b.add("n1", func(cfg *Config) {
					cfg.Check = func(net.Conn, Hello) (Rights, error) { return rights, nil }
				})
				conn := b.rawLink("n1", testHello("n9"))
				if _, err := conn.Write(frame); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				allowed := senders[typ]&^rights == 0
				st := b.hubs["n1"].Stats()
				if (b.hubs["n1"].Get("n9") != nil) != allowed || (st.Forbidden == 0) != allowed || st.Malformed != 0 {
					t.Errorf("rights %b, frame type %d: link up %t, stats %+v; want allowed %t", rights, typ, b.hubs["n1"].Get("n9") != nil, st, allowed)
				}
				handled := 0
				for _, e := range b.recs["n1"].take() {
					if !strings.HasPrefix(e, "up") && !strings.HasPrefix(e, "down") {
						handled++
					}
				}
				if !allowed && handled > 0 {
					t.Errorf("rights %b, frame type %d reached its handler", rights, typ)
				}
			})
		}
	}
}

func TestRecheckEndsLinks(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		good := map[string]bool{"n8": true, "n9": true}
		b.add("n1", func(cfg *Config) {
			cfg.Check = func(_ net.Conn, h Hello) (Rights, error) {
				if !good[h.Node] {
					return 0, errors.New("its secret has ended")
				}
				return AllRights, nil
			}
		})
		b.rawLink("n1", testHello("n8"))
		b.rawLink("n1", testHello("n9"))
		synctest.Wait()
		b.hubs["n1"].Recheck()
		synctest.Wait()
		if b.hubs["n1"].Get("n8") == nil || b.hubs["n1"].Get("n9") == nil {
			t.Fatal("Recheck ended a link that is still allowed")
		}
		good["n9"] = false
		b.hubs["n1"].Recheck()
		time.Sleep(time.Second)
		if b.hubs["n1"].Get("n8") == nil || b.hubs["n1"].Get("n9") != nil {
			t.Error("Recheck spared the link that is no longer allowed, or ended the other")
		}
	})
}
