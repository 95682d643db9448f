// Package tracker is the REST API by which hosts find a pool when multicast
// does not reach, and its client.
//
// A tracker is a member of the pool like any other, at an address that people
// know. Its list is the pool's, and whatever can speak HTTP may read it and
// add itself:
//
//	GET  /hostsAvailable    the hosts
//	POST /hostsAvailable    announce a host; answers the hosts, it among them
//
// The answer is {"masters":[HOST,...],"workers":[HOST,...]}, each HOST with addr,
// port and data, and where known id, name, roles, available, slots and lastSeen.
// A host with both roles is in both lists. An announcement is a HOST with role
// or roles; without addr the host is where the request came from. It lives for
// TTL, 2.5 intervals of 3 s, unless repeated, and never hides a member of the
// pool at the same address. data may be any JSON and is handed on as it came,
// whitespace aside.
//
// What is wrong with a request is said in one line of JSON:
//
//	{"error":{"code":"bad_host","message":"port is 0; want 1 to 65535"}}
//
// # Limits
//
// See the Max constants. A tracker that is full answers 503 until hosts expire.
//
// # Trust
//
// Whoever can reach the handler can list and announce. The server it is mounted
// in decides who that is; requests that a browser sends for another site's page
// are refused here. A client believes a tracker nothing but addresses: hosts
// with impossible ones are left out of what it returns, redirects are not
// followed, and an answer of more than MaxAnswerBytes is an error.
package tracker
