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
	// Prices are the catalogue. For a simulator with a StateFile that knows an
	// entry's lookup key already, see there.
	Prices []Price
	// StateFile is where the account outlives the process; empty means that it
	// lives in memory only. New reads the file if it exists and refuses one that
	// it cannot read in full. Every change is in the file before it is
	// answered. Only one simulator may use a file at a time.
	//
	// Prices in the file keep their ids. An entry of Prices whose lookup key is
	// not there is added. One whose amount, product name or metadata differs
	// becomes a new price that takes over the lookup key, as with Stripe's
	// transfer_lookup_key: a price's amount never changes, so subscriptions stay
	// on the old one, which remains active without a lookup key. Prices that
	// are no longer configured stay as they are.
	StateFile string
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
	stateFile     string
	saved         []byte // what stateFile holds
	baseURL       string
	webhookURL    string
	webhookSecret string

	// What follows, down to the blank line, is the account and is in snapshot.
	products      collection[*product]
	prices        collection[*price]
	customers     collection[*customer]
	sessions      collection[*checkoutSession]
	subscriptions collection[*subscription]
	schedules     collection[*schedule]
	invoices      collection[*invoice]
	items         collection[*invoiceItem]
	intents       collection[*paymentIntent]
	charges       collection[*charge]
	refunds       collection[*refund]
	disputes      collection[*dispute]
	portals       collection[*portalSession]
	events        collection[*event]
	configs       collection[*portalConfig]
	remembered    map[string]remembered
	skew          time.Duration // of the simulated time
	dunning       Dunning
	endpoints     collection[*endpoint]
	version       string // of the API, as events are rendered

	instant time.Time     // of what is happening now, which may be catching up with the clock
	settled int           // events before this index need no more delivery
	changed chan struct{} // closed and replaced whenever an event is queued or settled
	running bool
	held    bool // Run sends nothing

	faults   []Fault
	inFlight map[string]bool // idempotency keys of running requests
}

// New checks the configuration and returns a simulator that holds what its
// StateFile remembers and the catalogue, and nothing else.
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
		stateFile:     cfg.StateFile,
		remembered:    map[string]remembered{},
		dunning:       defaultDunning(),
		version:       apiVersion,
		inFlight:      map[string]bool{},
		changed:       make(chan struct{}),
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("stripesim: %w", err)
	}
	if len(s.configs.items) == 0 {
		s.configs.add(s.defaultConfig())
	}
	s.loadCatalogue(cfg.Prices)
	// The first read may already tell somebody the ids of the catalogue.
	if err := s.save(); err != nil {
		return nil, fmt.Errorf("stripesim: %w", err)
	}
	return s, nil
}

func (c Config) validate() error {
	switch {
	case isLiveKey(c.SecretKey):
		return errors.New("refusing a live key: no live key belongs in a simulator")
	case !strings.HasPrefix(c.SecretKey, "sk_test_"):
		return errors.New("SecretKey must start with sk_test_")
	case c.Now == nil, c.Rand == nil, c.Logger == nil:
		return errors.New("a simulator needs Now, Rand and Logger")
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
// there was no receiver stay undelivered, as with Stripe. Neither is kept in the
// StateFile: after a restart the receiver may well be somewhere else.
func (s *Sim) SetWebhook(target, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webhookURL, s.webhookSecret = target, secret
}

// Handler serves the API under /v1/, the hosted pages under /c/pay/ and
// /p/session/, a home page and the controls of the simulator under /sim/.
func (s *Sim) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		mux.Handle(rt.pattern, s.endpoint(rt))
	}
	mux.Handle("/v1/", s.endpoint(route{}))
	s.mountPages(mux)
	s.mountControl(mux)
	return mux
}

// change runs what a person or the clock does, once the clock has had its due,
// and returns when the outcome is saved.
func (s *Sim) change(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	err := do()
	// Even a refusal may tell what the clock did just now.
	if unsaved := s.save(); unsaved != nil {
		return unsaved
	}
	return err
}

// isLiveKey knows secret and restricted keys, sk_live_ and rk_live_.
func isLiveKey(key string) bool { return strings.Contains(key, "k_live_") }

func isWebURL(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
