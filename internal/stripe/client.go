// Package stripe is the adapter to Stripe: it implements billing.Provider and reads the webhook. It alone imports
// stripe-go, which pins Stripe's API version 2023-10-16.
package stripe

import (
	"context"
	"net/http"
	"strings"
	"time"

	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/plans"
)

// Timeouts of calls to Stripe. A call gets all its tries within callTimeout.
const (
	tryTimeout  = 10 * time.Second
	callTimeout = 25 * time.Second
	retries     = 2
	backoff     = 500 * time.Millisecond // before the first retry; it doubles
	longestWait = 5 * time.Second        // whoever asks for more is asked again by our caller
)

// Keys of metadata at Stripe.
const (
	accountMetadata      = "keymeter_account_id"   // of all that is made for an account: its id
	requestMetadata      = "keymeter_request"      // of sessions: the request that they were created by
	tierMetadata         = "keymeter_tier"         // of products and prices: the tier, also once the lookup key has moved on
	creditsMetadata      = "keymeter_credits"      // of top-ups and items: how many credits
	unitPriceMetadata    = "keymeter_unit_price"   // of items: dollars a credit
	subscriptionMetadata = "keymeter_subscription" // of items and invoices: the subscription that they are for
	keyMetadata          = "keymeter_key"          // of items, invoices and refunds: what makes each the only one
	managedMetadata      = "keymeter_managed"      // of prices: created by a sync, so that one may archive it
	portalMetadata       = "keymeter_portal"       // of portal configurations: what it is for
	productsMetadata     = "keymeter_products"     // of portal configurations: the products and prices that it offers
	downgradeMetadata    = "keymeter_downgrade"    // of portal configurations: when a change to a lesser plan takes effect
)

// Config is what the adapter works with.
type Config struct {
	SecretKey      string
	WebhookSecrets []string // several while one is being rotated
	APIURL         string   // "" is Stripe's own
	Catalogue      *plans.Catalogue
	Now            func() time.Time
	Transport      http.RoundTripper // nil is the default
}

// Client calls Stripe. It has no globals: its backends and their settings are its own.
type Client struct {
	api *client.API
	cfg Config
}

var _ billing.Provider = (*Client)(nil)

// New returns a client.
func New(cfg Config) *Client {
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport
	}
	backend := func(kind stripego.SupportedBackend) stripego.Backend {
		c := &stripego.BackendConfig{
			HTTPClient:        &http.Client{Transport: retrying{cfg.Transport}},
			MaxNetworkRetries: stripego.Int64(0),
			EnableTelemetry:   stripego.Bool(false),
			LeveledLogger:     &stripego.LeveledLogger{Level: stripego.LevelNull}, // it would print request bodies
		}
		if cfg.APIURL != "" {
			c.URL = stripego.String(strings.TrimSuffix(cfg.APIURL, "/"))
		}
		return stripego.GetBackendWithConfig(kind, c)
	}
	return &Client{cfg: cfg, api: client.New(cfg.SecretKey, &stripego.Backends{
		API: backend(stripego.APIBackend), Connect: backend(stripego.ConnectBackend), Uploads: backend(stripego.UploadsBackend),
	})}
}

// Live reports whether the client works on real money.
func (c *Client) Live() bool { return strings.Contains(c.cfg.SecretKey, "_live_") }

// write returns the parameters of a call that changes something. key makes its repetition harmless.
func write(ctx context.Context, key string) stripego.Params {
	return stripego.Params{Context: ctx, IdempotencyKey: stripego.String(key)}
}

// read returns the parameters of a call that needs no idempotency key.
func read(ctx context.Context) stripego.Params { return stripego.Params{Context: ctx} }

// page returns the parameters of a list. Its iterator asks for one page after the other.
func page(ctx context.Context) stripego.ListParams {
	return stripego.ListParams{Context: ctx, Limit: stripego.Int64(100)}
}
