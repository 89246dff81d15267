// Package keymeter is the client of Keymeter: API keys, credits and Stripe billing behind one contract.
//
// A [Client] has one method for each operation of the contract, and an iterator for each list. It repeats what failed
// on the way as long as that is safe. A [Meter] stands before your own handlers: it verifies the keys of your customers
// and spends their credits.
//
// Optional fields are pointers: new(90) from Go 1.26 on, [Ptr] before.
package keymeter

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Version is the version of this package. Each request has it in its User-Agent.
const Version = "0.1.0"

// Client calls one Keymeter server with one credential: a customer's key, a service token or an operator token. What a
// credential may not do is an [Error] with [ErrorCodeWrongCredentialKind]. It may be used from several goroutines.
type Client struct {
	base      string
	authorize func(http.Header) // a function, so that a printed Client does not show its credential
	http      http.Client
	userAgent string
	timeout   time.Duration
	retries   int
	backoff   backoff
	newID     func() string
}

// Option sets up a Client.
type Option func(*Client)

// WithHTTPClient sends requests with the given client instead of a new one. Redirects are never followed: the API has
// none, and a credential must not go elsewhere.
func WithHTTPClient(client *http.Client) Option {
	return func(c *Client) { c.http = *client }
}

// WithUserAgent puts the name of your program before this package's own in the User-Agent.
func WithUserAgent(name string) Option {
	return func(c *Client) { c.userAgent = name + " " + c.userAgent }
}

// WithTimeout is how long each try may take. It is 10 seconds if not set. A call as a whole is bounded by its context.
func WithTimeout(timeout time.Duration) Option {
	return func(c *Client) { c.timeout = timeout }
}

// WithRetries is how often a call is tried again at most. It is 3 if not set.
func WithRetries(retries int) Option {
	return func(c *Client) { c.retries = retries }
}

// WithBackoff sets the pauses before retries. Each is a random part of a span that begins at first, doubles each time
// and ends at most; what Retry-After asks for comes on top, 30 seconds at most. If not set, they are 100 milliseconds and 5 seconds.
func WithBackoff(first, most time.Duration) Option {
	return func(c *Client) { c.backoff = backoff{first, most} }
}

// WithIDs makes Idempotency-Keys and the ids of events with newID, where a call brings none. They have to be unique, and
// up to 100 printable ASCII characters without spaces. If not set, they are random.
func WithIDs(newID func() string) Option {
	return func(c *Client) { c.newID = newID }
}

// New makes a Client of the server at baseURL, as https://keymeter.example.com.
func New(baseURL, credential string, options ...Option) (*Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil {
		return nil, fmt.Errorf("keymeter: base URL: %w", err)
	}
	if (base.Scheme != "https" && base.Scheme != "http") || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("keymeter: the base URL is not like https://keymeter.example.com")
	}
	if credential == "" {
		return nil, errors.New("keymeter: the credential is empty")
	}
	c := &Client{
		base:      strings.TrimRight(base.String(), "/"),
		authorize: func(h http.Header) { h.Set("Authorization", "Bearer "+credential) },
		userAgent: "keymeter-go/" + Version,
		timeout:   10 * time.Second,
		retries:   3,
		backoff:   backoff{100 * time.Millisecond, 5 * time.Second},
		newID:     rand.Text,
	}
	if transport, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = transport.Clone()
		transport.MaxIdleConnsPerHost = transport.MaxIdleConns // all are to one server; a gateway needs many at once
		c.http.Transport = transport
	}
	for _, option := range options {
		option(c)
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// CallOption sets up one call.
type CallOption func(*callOptions)

type callOptions struct{ key string }

// WithIdempotencyKey sends this Idempotency-Key instead of a random one. With a key of your own a call can be made again
// after its process died, and has the first answer, within 24 hours.
func WithIdempotencyKey(key string) CallOption {
	return func(o *callOptions) { o.key = key }
}

// key is the Idempotency-Key of a call: the same for each of its tries.
func (c *Client) key(options []CallOption) string {
	if key := givenKey(options); key != "" {
		return key
	}
	return c.newID()
}

func givenKey(options []CallOption) string {
	var o callOptions
	for _, option := range options {
		option(&o)
	}
	return o.key
}

// Ptr is a pointer to v, for optional fields.
func Ptr[T any](v T) *T { return &v }
