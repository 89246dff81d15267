package stripesim

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

const maxBody = 1 << 20

// cause is what an event names as its origin: an API request, or nothing when a
// person on a hosted page or the clock did it.
type cause struct {
	RequestID      string
	IdempotencyKey string
}

// call is one API request on its way through a handler.
type call struct {
	*params
	cause
	path    string
	id      string // the {id} of the route, if it has one
	version string // of the API
	now     time.Time
}

// answer is a finished response, kept when an idempotency key asks for it.
type answer struct {
	Status int
	Body   []byte
}

// endpoint turns a route into an HTTP handler. A route without a run function
// is a place the simulator does not know.
func (s *Sim) endpoint(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requestID := s.ids.next("req_", 14)
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Request-Id", requestID)
		h.Set("Stripe-Version", firstOf(r.Header.Get("Stripe-Version"), apiVersion))

		c, err := s.admit(w, r, requestID)
		var a answer
		if err != nil {
			a = answerError(err)
		} else {
			a = s.exclusively(c, func() answer { return s.disrupt(s.requestFault(r), rt, r, c, h) })
		}
		s.log.Debug("stripe simulator request", "method", r.Method, "path", r.URL.Path, "status", a.Status, "request_id", requestID)
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body) // the client is gone; nothing to do about it
	})
}

// admit checks the key and the headers and reads the parameters: all that needs
// no state.
func (s *Sim) admit(w http.ResponseWriter, r *http.Request, requestID string) (*call, *apiError) {
	if err := s.authorize(r); err != nil {
		return nil, err
	}
	// Another version means other shapes. To answer in this one would be wrong
	// in ways that show only in production.
	version := firstOf(r.Header.Get("Stripe-Version"), apiVersion)
	if version != apiVersion && !sameIn(version, r.URL.Path) {
		return nil, notSimulated("", "API version "+version+", only "+apiVersion)
	}
	if r.Header.Get("Stripe-Account") != "" {
		return nil, notSimulated("", "connected accounts")
	}
	form, err := readForm(w, r)
	if err != nil {
		return nil, err
	}
	key := ""
	if r.Method == http.MethodPost { // Stripe ignores the header elsewhere
		key = r.Header.Get("Idempotency-Key")
	}
	if len(key) > 255 || !utf8.ValidString(key) {
		return nil, invalid("", "Idempotency keys can be up to 255 characters.")
	}
	return &call{
		params: parseParams(form), path: r.URL.Path, id: r.PathValue("id"), version: version,
		cause: cause{RequestID: requestID, IdempotencyKey: key},
	}, nil
}

func (s *Sim) authorize(r *http.Request) *apiError {
	key, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if user, _, ok := r.BasicAuth(); ok {
		key, found = user, true // curl -u sk_test_...: as in all of Stripe's examples
	}
	switch {
	case !found || key == "":
		return unauthorized("You did not provide an API key. Use 'Authorization: Bearer YOUR_SECRET_KEY'.")
	case isLiveKey(key):
		return unauthorized("This is a simulator and it refuses live keys. Revoke that key if it was sent here by mistake.")
	case key != s.key:
		return unauthorized("Invalid API Key provided.")
	}
	return nil
}

// readForm reads query and body: Stripe takes parameters from both, and a DELETE
// may carry them in either.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, *apiError) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, invalid("", "The request body could not be read or is too large.")
	}
	if kind := r.Header.Get("Content-Type"); len(body) > 0 && !strings.HasPrefix(kind, "application/x-www-form-urlencoded") {
		return nil, invalid("", "Invalid request (check that your POST content type is application/x-www-form-urlencoded).")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalid("", "The request body is not form-encoded.")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("", "The query string is malformed.")
	}
	for name, values := range query {
		form[name] = append(form[name], values...)
	}
	if !validUTF8(form) {
		return nil, invalid("", "The parameters are not valid UTF-8.")
	}
	return form, nil
}

// validUTF8 keeps out what JSON cannot say, in answers and in the state file.
func validUTF8(form url.Values) bool {
	for name, values := range form {
		if !utf8.ValidString(name) || !utf8.ValidString(strings.Join(values, "")) {
			return false
		}
	}
	return true
}

// serve runs one admitted request under the lock. It answers only what is saved.
// Failing that is an error that no idempotency key remembers: a retry gets the
// answer as soon as it can be saved.
func (s *Sim) serve(rt route, r *http.Request, c *call, h http.Header) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.now = s.tick()
	a := s.answer(rt, r, c, h)
	if err := s.save(); err != nil {
		return answerError(unsaved())
	}
	return a
}

func (s *Sim) answer(rt route, r *http.Request, c *call, h http.Header) answer {
	// Before anything else: a replay must not depend on what became of the
	// objects since.
	old, replay, err := s.recall(c)
	switch {
	case err != nil:
		return answerError(err)
	case replay:
		h.Set("Idempotent-Replayed", "true")
		h.Set("Original-Request", old.RequestID)
		return old.Answer
	}
	obj, err := s.run(rt, r, c)
	if err != nil {
		a := answerError(err)
		if !err.refusedBeforeExecution() {
			s.remember(c, a)
		}
		return a
	}
	a := answerJSON(http.StatusOK, obj)
	s.remember(c, a)
	return a
}

func (s *Sim) run(rt route, r *http.Request, c *call) (object, *apiError) {
	if rt.run == nil {
		return nil, notSimulated("", "the route "+r.Method+" "+r.URL.Path)
	}
	if err := c.check(rt.takes); err != nil {
		return nil, err
	}
	obj, err := rt.run(c)
	if err != nil {
		return nil, err
	}
	// A bad expansion is noticed only now: which fields there are depends on the
	// object.
	return obj, s.expand(obj, c.list("expand"))
}

func answerError(err *apiError) answer { return answerJSON(err.status, err.render()) }

func answerJSON(status int, obj object) answer {
	return answer{Status: status, Body: encode(obj)}
}

// encode writes JSON the way Stripe does: indented, and with & and < as they are.
func encode(v any) []byte { return encodeIndented(v, "  ") }

func encodeIndented(v any, indent string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		// Objects hold strings, numbers, booleans, maps and slices of them.
		panic("stripesim: not JSON: " + err.Error())
	}
	return buf.Bytes()
}
