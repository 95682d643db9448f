package port

import (
	"slices"
	"testing"
)

func TestParseRoutes(t *testing.T) {
	const v4 = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
wlan0	00000000	0101A8C0	0003	0	0	600	00000000	0	0	0
eth0	00000000	0101A8C0	0003	0	0	100	00000000	0	0	0
tun0	00000000	01000A0A	0003	0	0	0	00000080	0	0	0
eth0	0001A8C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
*	00000000	00000000	0200	0	0	0	00000000	0	0	0
eth1	00000000	0101A8C0	0002	0	0	1	00000000	0	0	0
eth2	00000000	0101A8C0	xx	0	0	1	00000000	0	0	0
eth3	00000000
`
	const zeros = "00000000000000000000000000000000"
	const v6 = "fd000000000000000000000000000000 40 " + zeros + " 00 " + zeros + " 00000100 00000001 00000000 00000001     eth0\n" +
		zeros + " 00 " + zeros + " 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0\n" +
		zeros + " 00 " + zeros + " 00 " + zeros + " ffffffff 00000001 00000000 00200200       lo\n" +
		"nonsense\n"
	got := append(parseRoutes4(v4), parseRoutes6(v6)...)
	want := []route{
		{iface: "wlan0", metric: 600},
		{iface: "eth0", metric: 100},
		{iface: "eth0", ipv6: true, metric: 0x400},
	}
	if !slices.Equal(got, want) {
		t.Errorf("parsed %+v, want %+v", got, want)
	}
}
