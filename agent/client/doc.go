// Package client talks to an agent over its local HTTP API; every command does.
//
// Find picks the agent: the one that an address names, else the one that package
// home finds on this host. New, NewDial and ForHandler make a Client of an
// address, of a function that opens connections, and of a handler in this process.
//
//	c, err := client.Find("")
//	…
//	st, err := c.SubmitFollow(ctx, api.SubmitRequest{Task: api.TaskSpec{Kind: tasks.Command, Argv: []string{"hostname"}}})
//	…
//	defer st.Close()
//	for {
//		e, err := st.Next() // io.EOF after the last result
//		…
//	}
//
// # Errors
//
// What the agent refuses comes back as *api.Error, whose Code is a stable word.
// When nobody listens at the address the error is a *NoAnswerError, and when
// this user may not connect a *home.NoAccessError. A connection that breaks is
// an error that names the agent's address; whether the request was carried out
// is then unknown.
package client
