// Package httpapi is the HTTP edge: it authenticates and validates requests against the contract, hands them to the
// domain and turns its answers and refusals into the contract's. It alone imports Echo and gen/api.
package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/keymeter/keymeter"
	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/accounts"
	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/httpapi/web"
	"github.com/keymeter/keymeter/internal/idempotency"
	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/keys"
	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/ratelimit"
)

// Config is what the edge works with.
type Config struct {
	Pool        *postgres.Pool
	Accounts    *accounts.Accounts
	Keys        *keys.Keys
	Credits     *credits.Credits
	Billing     *billing.Billing
	Idempotency *idempotency.Keeper
	IDs         *ids.Source
	Limits      *ratelimit.Limiter
	Tokens      Tokens
	// Await returns once no server answers by what was true before the invalidation; 0 is for all that there were.
	Await  func(ctx context.Context, invalidation int64) error
	Now    func() time.Time
	Logger *slog.Logger
	// ReadStripeEvent checks the signature of a Stripe event and reads it; ok is false for one of no interest. Nil if
	// Stripe is not configured.
	ReadStripeEvent func(ctx context.Context, body []byte, signature string) (e billing.Event, ok bool, err error)
	// Ready reports whether requests can be served.
	Ready func(ctx context.Context) error
}

// server implements the contract's operations.
type server struct{ Config }

var _ api.StrictServerInterface = (*server)(nil)

// New returns the handler of all of the contract, the documentation and the contract itself.
func New(cfg Config) (http.Handler, error) {
	doc, contractJSON, err := loadContract()
	if err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	operations, err := readContract(doc, contractJSON)
	if err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = echo.ExtractIPDirect() // what X-Forwarded-For says is anybody's
	e.HTTPErrorHandler = writeProblem
	s := &server{cfg}
	e.Use(
		requestLine(cfg.Logger, cfg.IDs),
		middleware.RecoverWithConfig(middleware.RecoverConfig{DisablePrintStack: true}),
		responseHeaders,
		operations.find,
		deadline,
		authenticate(cfg.Keys, cfg.Tokens),
		readBody,
		validate,
	)
	api.RegisterHandlers(e, api.NewStrictHandler(s, nil))
	web.Register(e, keymeter.Contract, contractJSON)
	return newFastVerify(s, e), nil
}

// responseHeaders sets what every answer of the API carries.
func responseHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Set(echo.HeaderXContentTypeOptions, "nosniff")
		return next(c)
	}
}
