// Command dev is what make run starts: a private Postgres, a Stripe simulator and the very same server as in
// production, in one process tree that one Ctrl-C ends.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keymeter/keymeter/internal/app"
	"github.com/keymeter/keymeter/internal/devpostgres"
	"github.com/keymeter/keymeter/internal/stripesim"
)

// home is where everything that is kept between runs lives, below the working directory.
const home = ".keymeter" // open to the user that Postgres runs as; its private files are private each

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "keymeter dev:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	secrets, err := loadSecrets(filepath.Join(home, "secrets.json"))
	if err != nil {
		return err
	}
	databaseURL, postgres, err := database(ctx, logger)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer func() { err = errors.Join(err, stop(ctx, postgres)) }()

	sim, simListener, err := simulator(ctx, secrets, logger)
	if err != nil {
		return fmt.Errorf("stripe simulator: %w", err)
	}
	cfg, err := secrets.config(databaseURL, "http://"+simListener.Addr().String())
	if err != nil {
		return errors.Join(err, simListener.Close())
	}
	a, err := app.Build(ctx, cfg, app.Outside{Now: sim.Now, Wall: time.Now, Rand: rand.Reader, Logger: logger})
	if err != nil {
		return errors.Join(err, simListener.Close())
	}
	defer a.Close()
	listener, err := a.Listen(ctx)
	if err != nil {
		return errors.Join(err, simListener.Close())
	}
	url := "http://" + listener.Addr().String()
	sim.SetWebhook(url+"/webhooks/stripe", secrets.WebhookSecret)
	if err := demo(ctx, a, url, "http://"+simListener.Addr().String(), secrets); err != nil {
		return errors.Join(err, simListener.Close(), listener.Close())
	}
	printNext(url, "http://"+simListener.Addr().String())
	return serve(ctx, a, listener, sim, simListener, postgres)
}

// serve runs the server and the simulator until ctx is done.
func serve(
	ctx context.Context, a *app.App, listener net.Listener, sim *stripesim.Sim, simListener net.Listener,
	postgres *devpostgres.Server,
) error {
	pages := &http.Server{Handler: sim.Handler(), ReadHeaderTimeout: 5 * time.Second}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return a.Run(running, listener) })
	group.Go(func() error { return sim.Run(running) })
	group.Go(func() error { return watch(running, postgres) })
	group.Go(func() error {
		if err := pages.Serve(simListener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-running.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return pages.Shutdown(stop)
	})
	return group.Wait()
}

// database returns the URL of the database to use, and the private server that it is on, nil if it is not ours.
func database(ctx context.Context, logger *slog.Logger) (url string, postgres *devpostgres.Server, err error) {
	if url := os.Getenv("KEYMETER_DATABASE_URL"); url != "" {
		return url, nil, nil
	}
	postgres, err = devpostgres.Start(ctx, devpostgres.Options{
		Dir: filepath.Join(home, "postgres"), Durable: true, BinDir: os.Getenv("KEYMETER_PG_BIN"),
		CacheDir: filepath.Join(".cache", "postgres"), Logger: logger,
	})
	if err != nil {
		return "", nil, err
	}
	if err := postgres.EnsureDatabase(ctx, "keymeter"); err != nil {
		return "", nil, errors.Join(err, stop(ctx, postgres))
	}
	return postgres.URL("keymeter"), postgres, nil
}

func stop(ctx context.Context, postgres *devpostgres.Server) error {
	if postgres == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return postgres.Stop(ctx)
}

// watch ends everything if the private Postgres ends first.
func watch(ctx context.Context, postgres *devpostgres.Server) error {
	if postgres == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-postgres.Done():
		return errors.New("the private Postgres has ended")
	}
}

// simulatorAddress is where the simulator's pages are, if the port is free.
const simulatorAddress = "127.0.0.1:12111"

func simulator(ctx context.Context, s secrets, logger *slog.Logger) (*stripesim.Sim, net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", simulatorAddress)
	if err != nil {
		if listener, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
	}
	prices, err := simulatedPrices()
	if err != nil {
		return nil, nil, errors.Join(err, listener.Close())
	}
	sim, err := stripesim.New(stripesim.Config{
		SecretKey: s.StripeKey, WebhookSecret: s.WebhookSecret, BaseURL: "http://" + listener.Addr().String(),
		StateFile: filepath.Join(home, "stripe.json"), Prices: prices, Now: time.Now, Rand: rand.Reader, Logger: logger,
	})
	if err != nil {
		return nil, nil, errors.Join(err, listener.Close())
	}
	return sim, listener, nil
}

func printNext(url, simulator string) {
	fmt.Printf(`
Keymeter is at %[1]s, with a Stripe simulator at %[2]s. No money moves.

  %-28[4]s the API, to try in a browser; to read: /reference
  %-28[5]s credentials of a demo account, for your shell
  curl -H "Authorization: Bearer $KEYMETER_API_KEY" $KEYMETER_URL/v1/usage

docs/quickstart.md goes on from here to a paid subscription. Ctrl-C stops everything; the data stays in %[3]s/.
`, url, simulator, home, url+"/docs", ". "+home+"/dev.env")
}
