package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// bug is a way to be off contract that the oracle has to see. It is planted between the server and a caller.
type bug struct {
	name string
	// path is what is asked for, with whose credential.
	path string
	auth header
	// in changes the request that the server gets to see, out what it has answered.
	in  func(r *http.Request)
	out func(answer *httptest.ResponseRecorder)
	// seen is part of what the oracle has to say.
	seen string
}

// rewrite changes the text of an answer's body.
func rewrite(old, replacement string) func(*httptest.ResponseRecorder) {
	return func(answer *httptest.ResponseRecorder) {
		body := answer.Body.String()
		answer.Body.Reset()
		answer.Body.WriteString(strings.ReplaceAll(body, old, replacement))
	}
}

// The oracle that judges every exchange of the tests sees each kind of bug that it is there for.
func TestOracleSeesBugs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	const usage, keys, subscription = "/v1/usage", "/v1/keys", "/v1/billing/subscription"
	for _, b := range []bug{
		{
			name: "a required field is missing", path: usage, auth: c.auth(),
			out: rewrite(`,"requestCount":0`, ""), seen: `property "requestCount" is missing`,
		},
		{
			name: "a format is wrong", path: keys, auth: c.auth(),
			out: rewrite(`T10:30:00Z"`, ` 10:30"`), seen: "'2026-03-21 10:30' is not valid date-time",
		},
		{
			name: "a status is undocumented", path: keys, auth: c.auth(),
			out: func(answer *httptest.ResponseRecorder) { answer.Code = http.StatusAccepted }, seen: "status is not supported",
		},
		{
			name: "the media type is wrong", path: "/v1/keys/key_nobody", auth: c.auth(),
			out:  func(answer *httptest.ResponseRecorder) { answer.Header().Set("Content-Type", "application/json") },
			seen: `header Content-Type has unexpected value: "application/json"`,
		},
		{
			name: "a header is missing", path: usage, auth: header{"Authorization", ""},
			out:  func(answer *httptest.ResponseRecorder) { answer.Header().Del("WWW-Authenticate") },
			seen: `response header "WWW-Authenticate" missing`,
		},
		{
			name: "the enum does not have the value", path: subscription, auth: c.auth(),
			out: rewrite(`"tier":"free"`, `"tier":"gold"`), seen: "value is not one of the allowed values",
		},
		{
			name: "a property is undeclared", path: keys, auth: c.auth(),
			out: rewrite(`"prefix"`, `"hash":"5f4dcc3b","prefix"`), seen: "additional properties 'hash' not allowed",
		},
		{
			name: "a bound is not enforced", path: keys + "?limit=1000", auth: c.auth(),
			in: func(r *http.Request) { r.URL.RawQuery = "limit=100" }, seen: `"limit" in query has an error: validation failed due to: at '': maximum`,
		},
		{
			name: "a null where there may be none", path: subscription, auth: c.auth(),
			out: rewrite(`"tierDisplay":"Free ($0/mo)"`, `"tierDisplay":null`), seen: "not nullable",
		},
		{
			name: "a credential is not asked for", path: usage, auth: header{"Authorization", ""},
			in: func(r *http.Request) { r.Header.Set("Authorization", c.auth().value) }, seen: "the request has no such credential",
		},
		{
			name: "another kind of credential will do", path: usage, auth: bearer(theOperatorToken),
			in: func(r *http.Request) { r.Header.Set("Authorization", c.auth().value) }, seen: "the request has no such credential",
		},
		{
			name: "a code is of another answer", path: "/v1/keys/key_nobody", auth: c.auth(),
			out: rewrite("key_not_found", "account_not_found"), seen: "code account_not_found",
		},
	} {
		t.Run(b.name, func(t *testing.T) {
			_, err := w.tryURL(w.http.URL, http.MethodGet, b.path, nil, b.auth)
			require.NoError(t, err, "without the bug")
			buggy := httptest.NewServer(b.plant(w.app.Handler()))
			defer buggy.Close()
			_, err = w.tryURL(buggy.URL, http.MethodGet, b.path, nil, b.auth)
			require.ErrorContains(t, err, b.seen)
		})
	}
}

func (b bug) plant(server http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.in != nil {
			b.in(r)
		}
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, r)
		if b.out != nil {
			b.out(answer)
		}
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}
