// Package api is the agent's local HTTP API: what commands and scripts talk to.
//
// NewHandler makes an http.Handler of a Backend, which is the agent. All bodies
// are JSON, but for output and blobs; the types in types.go are what travels, in
// both directions. Package client speaks it from Go; from a shell it is
//
//	curl --unix-socket /run/scagent/1.sock http://scagent/v1/members
//
// # Routes
//
//	GET  /v1/info                 Info
//	GET  /v1/members              [Member, …]
//	POST /v1/tasks                SubmitRequest → Submitted
//	     ?follow=1                → StreamEvent a line, the first "submitted"
//	     ?dry_run=1               → DryRun
//	GET  /v1/tasks                [TaskStatus, …], oldest first, without output and results
//	     ?state=a,b &limit=100 &after=ID
//	GET  /v1/tasks/{id}           TaskStatus, or RunStatus for the id of a run
//	GET  /v1/tasks/{id}/output    bytes: ?stream=stdout|stderr &follow=1
//	POST /v1/tasks/{id}/cancel    CancelRequest (or nothing) → Stopped; a task or a run
//	GET  /v1/runs/{id}/events     StreamEvent a line, as with follow=1; a run or a task
//	GET  /v1/events               server-sent events, each an Event; Last-Event-ID or ?after=N
//	PUT  /v1/available            AvailableRequest
//	PUT  /v1/data                 any JSON
//	POST /v1/join                 JoinRequest → Joined
//	POST /v1/leave
//	PUT  /v1/blobs                bytes → Blob
//	GET  /v1/blobs/{hash}         bytes
//	GET  /healthz, /readyz        "ok"
//
// A request that would go wrong silently is refused instead: JSON with unknown,
// misspelt or doubled fields, unknown query parameters, fields that mean nothing
// for the task's kind.
//
// # Errors
//
// Every answer that is an error is ErrorBody, with a stable word (see the Code
// constants), one line that says what was wrong and what to do, and a fitting
// status.
//
// # Streams
//
// Whoever follows a run gets every byte of it, and the tasks wait for a follower
// that is slow; when it hangs up they go on. Whoever watches the events must keep
// up: the Feed remembers the last FeedEvents, and who falls further behind is
// disconnected.
//
// # Trust
//
// Whoever can open the socket can run anything on every worker. On TCP, where
// browsers can reach it, Options.Token and Options.Hosts must be set: requests
// need the token, and neither another site's pages nor a name that was pointed at
// this host get through.
package api
