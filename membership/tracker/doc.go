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
// # Services
//
// The HTTP clients of sc-discovery, the library of supercluster, are answered as
// by its tracker:
//
//	POST /    announce services; answers all services
//
// The body is {"services":{ID:{id,name,data,available},...}}, every 3 s, with an
// empty map from who only asks. The answer is a map too, without anything around
// it, from id to {id, name, data, available, rinfo}; rinfo has address, family
// and port of what announced the service.
//
// The name of a service is its role. So every host is in the map once for each of
// its roles, with the id ROLE:ID, where its rinfo is where it can be reached; and
// a service of the name of a role is among the hosts, External, at the address
// that it was announced from and at the port that its data has as port, or else
// the one it was announced from. Services of other names are in the map and in
// Announced alone. The key of the map counts as id. What a member has as id
// nobody else gets.
//
// A service lives for TTL too. For 4.5 s after that, as after a member has left,
// the map still has it, with available false and without data: this is how those
// clients learn that something has gone.
//
// # Errors
//
// What is wrong with a request is said in one line of JSON:
//
//	{"error":{"code":"bad_host","message":"port is 0; want 1 to 65535"}}
//
// A body with one impossible service announces none of its services.
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
