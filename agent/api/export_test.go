package api

// Route is a method of a path, for tests that go through all there are.
type Route struct{ Method, Pattern string }

// Routes are all that NewHandler serves.
func Routes() []Route {
	var rs []Route
	for _, r := range (&handler{}).routes() {
		rs = append(rs, Route{r.method, r.pattern})
	}
	return rs
}

// MaxConns bounds the connections of ListenTCP.
const MaxConns = maxConns
