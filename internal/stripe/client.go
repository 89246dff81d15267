// Package stripe is the adapter to Stripe: it implements billing.Provider and reads the webhook. It alone imports
// stripe-go, which pins Stripe's API version 2023-10-16.
package stripe

import (
	"context"
	"errors"
	"fmt"
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
)

// Keys of metadata at Stripe.
const (
	accountMetadata = "keymeter_account_id" // of customers, sessions and subscriptions: our account's id
	requestMetadata = "keymeter_request"    // of sessions: the request that they were created by
	tierMetadata    = "keymeter_tier"       // of prices: the tier, once the lookup key has moved on to a newer price
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
	backend := func(kind stripego.SupportedBackend) stripego.Backend {
		c := &stripego.BackendConfig{
			HTTPClient:        &http.Client{Timeout: tryTimeout, Transport: cfg.Transport},
			MaxNetworkRetries: stripego.Int64(retries),
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

// live reports whether the client works on real money.
func (c *Client) live() bool { return strings.Contains(c.cfg.SecretKey, "_live_") }

// write returns the parameters of a call that changes something. key makes its repetition harmless.
func write(ctx context.Context, key string) stripego.Params {
	return stripego.Params{Context: ctx, IdempotencyKey: stripego.String(key)}
}

// failed turns an error of stripe-go into one of the domain. What a retry may mend is ErrUnavailable; the rest is our
// fault and stays an error.
func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", doing, redact(err))
	var stripeErr *stripego.Error
	if !errors.As(err, &stripeErr) || stripeErr.HTTPStatusCode >= 500 ||
		stripeErr.HTTPStatusCode == http.StatusTooManyRequests || stripeErr.HTTPStatusCode == http.StatusConflict {
		return billing.ErrUnavailable.Because(err)
	}
	return err
}

// redact keeps what Stripe says of an error and drops the rest: its message may quote parts of a key.
func redact(err error) error {
	var stripeErr *stripego.Error
	if !errors.As(err, &stripeErr) {
		return err
	}
	return &stripego.Error{
		Code: stripeErr.Code, HTTPStatusCode: stripeErr.HTTPStatusCode, Param: stripeErr.Param,
		RequestID: stripeErr.RequestID, Type: stripeErr.Type,
	}
}

func missing(err error) bool {
	var stripeErr *stripego.Error
	return errors.As(err, &stripeErr) && stripeErr.HTTPStatusCode == http.StatusNotFound
}
