package keymeter_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	keymeter "github.com/keymeter/keymeter/sdk/go"
)

// The tests run beside a real server: scripts/sdk-go starts it and says where it is.
func TestMain(m *testing.M) {
	for _, name := range []string{"KEYMETER_URL", "KEYMETER_SERVICE_TOKEN", "KEYMETER_OPERATOR_TOKEN"} {
		if os.Getenv(name) == "" {
			fmt.Fprintln(os.Stderr, name+" is not set: run scripts/sdk-go")
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// hop is a proxy before the server. It does to requests what it is told to, in turn, and lets the others through.
type hop struct {
	URL     string
	forward http.Handler
	mu      sync.Mutex
	faults  []fault
	seen    []sent
}

type fault func(h *hop, w http.ResponseWriter, r *http.Request)

type sent struct {
	method, path, body string
	header             http.Header
	at                 time.Time
}

func newHop(t *testing.T, faults ...fault) *hop {
	t.Helper()
	target, err := url.Parse(os.Getenv("KEYMETER_URL"))
	ok(t, err)
	h := &hop{faults: faults, forward: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	h.URL = server.URL
	return h
}

func (h *hop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	h.mu.Lock()
	h.seen = append(h.seen, sent{r.Method, r.URL.EscapedPath(), string(body), r.Header.Clone(), time.Now()})
	var next fault
	if len(h.faults) > 0 {
		next, h.faults = h.faults[0], h.faults[1:]
	}
	h.mu.Unlock()
	if next != nil {
		next(h, w, r)
		return
	}
	h.forward.ServeHTTP(w, r)
}

func (h *hop) requests() []sent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]sent(nil), h.seen...)
}

// answers is a fault: another answer than the server's.
func answers(status int, kind, body string, header ...string) fault {
	return func(_ *hop, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func unavailable(retryAfter string) fault {
	return answers(503, "application/problem+json",
		`{"type":"x","title":"x","status":503,"detail":"Try again.","code":"unavailable","requestId":"req_1"}`, "Retry-After", retryAfter)
}

// resets is a fault: the connection breaks before the server has the request.
func resets(*hop, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// loses is a fault: the server does what was asked, and its answer is lost.
func loses(h *hop, _ http.ResponseWriter, r *http.Request) {
	h.forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// cuts is a fault: the answer breaks off.
func cuts(h *hop, w http.ResponseWriter, r *http.Request) {
	whole := httptest.NewRecorder()
	h.forward.ServeHTTP(whole, r)
	w.Header().Set("Content-Type", whole.Header().Get("Content-Type"))
	w.Header().Set("Content-Length", fmt.Sprint(whole.Body.Len()))
	w.WriteHeader(whole.Code)
	_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
	panic(http.ErrAbortHandler)
}

// hangs is a fault: there is no answer until the caller gives up.
func hangs(_ *hop, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func (h *hop) client(t *testing.T, credential string, options ...keymeter.Option) *keymeter.Client {
	t.Helper()
	options = append([]keymeter.Option{keymeter.WithBackoff(time.Millisecond, 10*time.Millisecond)}, options...)
	c, err := keymeter.New(h.URL, credential, options...)
	ok(t, err)
	return c
}

func (h *hop) service(t *testing.T, options ...keymeter.Option) *keymeter.Client {
	t.Helper()
	return h.client(t, os.Getenv("KEYMETER_SERVICE_TOKEN"), options...)
}

func (h *hop) operator(t *testing.T, options ...keymeter.Option) *keymeter.Client {
	t.Helper()
	return h.client(t, os.Getenv("KEYMETER_OPERATOR_TOKEN"), options...)
}

// newCustomer makes an account with a key. It starts with 2,500 credits, which are a hard cap.
func newCustomer(t *testing.T, key keymeter.CreateKeyRequest) (*keymeter.Account, *keymeter.CreatedKey) {
	t.Helper()
	operator := newHop(t).operator(t)
	account, err := operator.CreateAccount(t.Context(), keymeter.CreateAccountRequest{Name: t.Name()})
	ok(t, err)
	created, err := operator.CreateAccountKey(t.Context(), account.ID, key)
	ok(t, err)
	return account, created
}

// used is how many credits and requests a customer has used.
func used(t *testing.T, key string) (credits, requests int64) {
	t.Helper()
	usage, err := newHop(t).client(t, key).GetUsage(t.Context())
	ok(t, err)
	return usage.Credits.Used, usage.RequestCount
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, want, got T) {
	t.Helper()
	if want != got {
		t.Fatalf("want %v, got %v", want, got)
	}
}
