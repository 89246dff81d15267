// Package app wires the parts into a server and runs it.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keymeter/keymeter/internal/accounts"
	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/httpapi"
	"github.com/keymeter/keymeter/internal/idempotency"
	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/keys"
	"github.com/keymeter/keymeter/internal/leases"
	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/ratelimit"
	"github.com/keymeter/keymeter/internal/stripe"
)

// Outside is what a server takes from the world around it.
type Outside struct {
	Now    func() time.Time
	Wall   func() time.Time // the clock that signatures go by; nil if it is Now
	Rand   io.Reader        // cryptographically secure
	Logger *slog.Logger
}

// hotConns is enough for the ledger's workers, for the look-ups of keys, and one for each to spare.
const hotConns = 8

// App is a server that is built and not yet running.
type App struct {
	cfg         Config
	outside     Outside
	pool, hot   *postgres.Pool
	draining    chan struct{} // closed when the server is told to stop
	accounts    *accounts.Accounts
	keys        *keys.Keys
	holder      *leases.Holder
	credits     *credits.Credits
	billing     *billing.Billing
	limits      *ratelimit.Limiter
	idempotency *idempotency.Keeper
	handler     http.Handler
}

// Build connects the parts. It does not listen, and needs no database yet unless it migrates.
func Build(ctx context.Context, cfg Config, o Outside) (*App, error) {
	p, err := cfg.parse()
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	pool, err := postgres.Open(ctx, cfg.DatabaseURL, cfg.DatabaseMaxConns)
	if err != nil {
		return nil, err
	}
	hot, err := postgres.OpenHot(ctx, cfg.DatabaseURL, hotConns)
	if err != nil {
		pool.Close()
		return nil, err
	}
	a := &App{cfg: cfg, outside: o, pool: pool, hot: hot, draining: make(chan struct{})}
	if err := errors.Join(a.prepareSchema(ctx), a.wire(p)); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *App) prepareSchema(ctx context.Context) error {
	if a.cfg.MigrateOnStart {
		return postgres.Migrate(ctx, a.pool)
	}
	pending, err := postgres.Pending(ctx, a.pool)
	if err != nil {
		return fmt.Errorf("look at the schema: %w", err)
	}
	if pending {
		return errors.New("the schema is not up to date: run keymeter migrate, or set KEYMETER_MIGRATE_ON_START")
	}
	return nil
}

func (a *App) wire(p parsed) error {
	source := ids.NewSource(a.outside.Now, a.outside.Rand)
	a.accounts = accounts.New(a.pool, source, a.outside.Now)
	if err := a.wireKeys(source, p); err != nil {
		return err
	}
	a.limits = ratelimit.New(a.pool, a.outside.Now)
	a.idempotency = idempotency.New(a.pool, a.outside.Now, a.outside.Rand, p.peppers.Current())
	a.credits = credits.New(a.pool, a.hot, source, a.outside.Now, p.catalogue)
	bill := billing.Config{
		Pool: a.pool, IDs: source, Now: a.outside.Now, Catalogue: p.catalogue, Accounts: a.accounts, Credits: a.credits,
		Redirects: p.redirects, Await: a.holder.Wait, Logger: a.outside.Logger,
	}
	edge := httpapi.Config{
		Pool: a.pool, Accounts: a.accounts, Keys: a.keys, Credits: a.credits, Idempotency: a.idempotency, IDs: source,
		Limits: a.limits, Tokens: p.tokens, Now: a.outside.Now, Logger: a.outside.Logger, Ready: a.ready, Await: a.await,
	}
	if a.cfg.StripeSecretKey != "" {
		client := stripe.New(stripe.Config{
			SecretKey: a.cfg.StripeSecretKey, WebhookSecrets: a.cfg.StripeWebhookSecrets, APIURL: a.cfg.StripeAPIURL,
			Catalogue: p.catalogue, Now: a.wall(),
		})
		bill.Provider, edge.ReadStripeEvent = client, client.ReadEvent
	}
	a.billing = billing.New(bill)
	edge.Billing = a.billing
	var err error
	a.handler, err = httpapi.New(edge)
	return err
}

func (a *App) wall() func() time.Time {
	if a.outside.Wall != nil {
		return a.outside.Wall
	}
	return a.outside.Now
}

// wireKeys connects the keys in memory with the lease under which they may be used.
func (a *App) wireKeys(source *ids.Source, p parsed) (err error) {
	var holder *leases.Holder
	a.keys, err = keys.New(keys.Config{
		Pool: a.pool, Hot: a.hot, IDs: source, Now: a.outside.Now, Rand: a.outside.Rand, Format: p.format,
		Peppers: p.peppers, CacheSize: a.cfg.CacheKeys, Leased: func() bool { return holder.Valid() },
	})
	if err != nil {
		return err
	}
	holder = leases.New(leases.Config{
		DatabaseURL: a.cfg.DatabaseURL, Pool: a.pool, ID: source.New("replica"), Logger: a.outside.Logger,
		OnInvalidate: a.keys.Forget, OnReset: a.keys.ForgetAll,
	})
	a.holder = holder
	return nil
}

// await waits for an invalidation; 0 is for all that there were.
func (a *App) await(ctx context.Context, invalidation int64) error {
	if invalidation == 0 {
		var err error
		if invalidation, err = leases.Latest(ctx, a.pool); err != nil {
			return err
		}
	}
	return a.holder.Wait(ctx, invalidation)
}

// Handler returns the server's HTTP handler.
func (a *App) Handler() http.Handler { return a.handler }

// FlushLastUsed writes when keys were last used, as Run does every few seconds.
func (a *App) FlushLastUsed(ctx context.Context) error { return a.keys.FlushLastUsed(ctx) }

// Reconcile compares with Stripe, as Run does every minute.
func (a *App) Reconcile(ctx context.Context) (billing.Report, error) { return a.billing.Reconcile(ctx) }

// CreateAccount creates an account, for the command line.
func (a *App) CreateAccount(ctx context.Context, p accounts.CreateParams) (account accounts.Account, err error) {
	err = postgres.InTx(ctx, a.pool, func(tx postgres.Tx) error {
		account, err = a.accounts.CreateTx(ctx, tx, p)
		return err
	})
	return account, err
}

// AccountByExternalID returns the account with the external id, or accounts.ErrNotFound.
func (a *App) AccountByExternalID(ctx context.Context, externalID string) (accounts.Account, error) {
	found, _, err := a.accounts.List(ctx, accounts.ListParams{Limit: 1, ExternalID: &externalID})
	if err == nil && len(found) == 0 {
		err = accounts.ErrNotFound
	}
	if err != nil {
		return accounts.Account{}, err
	}
	return found[0], nil
}

// Recognises reports whether a raw key is valid now.
func (a *App) Recognises(ctx context.Context, rawKey string) bool {
	_, _, err := a.keys.Authenticate(ctx, rawKey)
	return err == nil
}

// CreateKey creates a key for an account, for the command line.
func (a *App) CreateKey(ctx context.Context, accountID string, p keys.CreateParams) (created keys.Created, err error) {
	if _, err := a.accounts.Get(ctx, accountID); err != nil {
		return keys.Created{}, err
	}
	err = postgres.InTx(ctx, a.pool, func(tx postgres.Tx) error {
		created, err = a.keys.CreateTx(ctx, tx, accountID, p)
		return err
	})
	return created, err
}

// VerifyLedger recomputes the ledger and returns what differs, for the command line.
func (a *App) VerifyLedger(ctx context.Context) ([]credits.Difference, error) {
	return a.credits.Verify(ctx)
}

// Listen opens the address that the settings name.
func (a *App) Listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", a.cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on KEYMETER_ADDR: %w", err)
	}
	return listener, nil
}

// Run serves until ctx is done, then lets running requests end and writes what is still in memory. Close follows it.
func (a *App) Run(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: a.handler, ErrorLog: slog.NewLogLogger(a.outside.Logger.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
	weight := newBallast()
	defer runtime.KeepAlive(weight)
	tidyMemory(a.cfg.CacheKeys)
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx)) // what requests need goes on until they have ended
	defer stopWork()
	group, running := errgroup.WithContext(ctx)
	a.background(running, work, group)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-running.Done()
		close(a.draining)
		defer stopWork()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.ShutdownTimeout)
		defer cancel()
		return server.Shutdown(stop)
	})
	err := group.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, a.keys.FlushLastUsed(last))
}

// Background runs what requests need beside the handler, until ctx is done: the lease, the ledger and the inbox of
// Stripe's events. Run does so itself; it is for tests that serve the handler.
func (a *App) Background(ctx context.Context) error {
	group, work := errgroup.WithContext(ctx)
	group.Go(func() error { return a.holder.Run(work) })
	group.Go(func() error { return a.credits.Run(work) })
	group.Go(func() error { return a.billing.Run(work) })
	return group.Wait()
}

// Close releases the database.
func (a *App) Close() {
	a.pool.Close()
	a.hot.Close()
}

var errDraining = errors.New("the server is stopping")

func (a *App) ready(ctx context.Context) error {
	select {
	case <-a.draining:
		return errDraining
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return a.pool.Ping(ctx)
}
