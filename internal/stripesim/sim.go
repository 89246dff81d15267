package stripesim

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// apiVersion is the only API version the simulator speaks.
const apiVersion = "2023-10-16"

// Price is one entry of the catalogue: a monthly, licensed price in US dollars.
// Prices with the same ProductName share a product.
type Price struct {
	LookupKey   string
	ProductName string
	UnitAmount  int64 // cents
	Metadata    map[string]string
}

// Config is what a simulator is made from.
type Config struct {
	// SecretKey is the only key accepted; it must start with sk_test_.
	SecretKey string
	// WebhookURL receives signed events. Empty means none are delivered.
	WebhookURL string
	// WebhookSecret signs them; required when WebhookURL is set.
	WebhookSecret string
	// BaseURL is where browsers reach the hosted pages; SetBaseURL may set it
	// later, when the listener's address is known.
	BaseURL string
	Prices  []Price
	// Now and Rand are the only sources of time and of identifiers.
	Now    func() time.Time
	Rand   io.Reader
	Logger *slog.Logger
	// HTTPClient delivers webhooks; nil means one with a 10 s timeout.
	HTTPClient *http.Client
}

// Sim is one simulated Stripe account. It is safe for concurrent use.
type Sim struct {
	key    string
	now    func() time.Time
	log    *slog.Logger
	client *http.Client
	ids    idSource

	// mu guards everything below. A request holds it from its first look at
	// the state to its last, which is what makes an idempotency key safe under
	// concurrent retries.
	mu            sync.Mutex
	baseURL       string
	webhookURL    string
	webhookSecret string

	products      collection[product]
	prices        collection[price]
	customers     collection[customer]
	sessions      collection[checkoutSession]
	subscriptions collection[subscription]
	invoices      collection[invoice]
	portals       collection[portalSession]
	events        collection[event]
	portalConfig  string
	remembered    map[string]remembered

	settled int           // events before this index need no more delivery
	changed chan struct{} // closed and replaced whenever an event is queued or settled
	running bool
}

// New checks the configuration and returns a simulator that holds its catalogue
// and nothing else.
func New(cfg Config) (*Sim, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("stripesim: %w", err)
	}
	s := &Sim{
		key:           cfg.SecretKey,
		now:           cfg.Now,
		log:           cfg.Logger,
		client:        webhookClient(cfg.HTTPClient),
		ids:           idSource{rand: cfg.Rand},
		baseURL:       strings.TrimRight(cfg.BaseURL, "/"),
		webhookURL:    cfg.WebhookURL,
		webhookSecret: cfg.WebhookSecret,
		remembered:    map[string]remembered{},
		changed:       make(chan struct{}),
	}
	s.portalConfig = s.ids.next("bpc_", 24)
	s.loadCatalogue(cfg.Prices)
	return s, nil
}

func (c Config) validate() error {
	switch {
	case isLiveKey(c.SecretKey):
		return errors.New("refusing a live key: no live key belongs in a simulator")
	case !strings.HasPrefix(c.SecretKey, "sk_test_"):
		return errors.New("SecretKey must start with sk_test_")
	case c.Now == nil, c.Rand == nil, c.Logger == nil:
		return errors.New("Now, Rand and Logger are required")
	case c.WebhookURL != "" && c.WebhookSecret == "":
		return errors.New("WebhookURL needs a WebhookSecret")
	}
	for _, u := range []string{c.WebhookURL, c.BaseURL} {
		if u != "" && !isWebURL(u) {
			return fmt.Errorf("%q is not an http(s) URL", u)
		}
	}
	return validateCatalogue(c.Prices)
}

// SetBaseURL changes the base of hosted page URLs made from now on.
func (s *Sim) SetBaseURL(u string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.baseURL = strings.TrimRight(u, "/")
}

// SetWebhook changes where events go and what signs them. Events emitted while
// there was no receiver stay undelivered, as with Stripe.
func (s *Sim) SetWebhook(target, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webhookURL, s.webhookSecret = target, secret
}

// Handler serves the API under /v1/ and the hosted pages under /c/pay/ and
// /p/session/.
func (s *Sim) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		mux.Handle(rt.pattern, s.endpoint(rt))
	}
	mux.Handle("/v1/", s.endpoint(route{}))
	s.mountPages(mux)
	return mux
}

// Advance does what the clock has made due: expires sessions, renews
// subscriptions and ends the cancelled ones. Requests and Run do this by
// themselves; a test that moves its clock may ask for it.
func (s *Sim) Advance() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(s.now().UTC())
}

func (s *Sim) advance(now time.Time) {
	for _, cs := range s.sessions.oldestFirst() {
		if cs.status == sessionOpen && !now.Before(cs.expiresAt) {
			s.expireSession(cause{}, cs)
		}
	}
	for _, sub := range s.subscriptions.oldestFirst() {
		for sub.status == statusActive && !now.Before(sub.periodEnd) {
			s.endPeriod(sub)
		}
	}
}

func isLiveKey(key string) bool { return strings.Contains(key, "k_live_") }

func isWebURL(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
