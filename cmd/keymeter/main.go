// Command keymeter is the server and its tools for operators.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keymeter/keymeter/internal/accounts"
	"github.com/keymeter/keymeter/internal/app"
	"github.com/keymeter/keymeter/internal/httpapi"
	"github.com/keymeter/keymeter/internal/keys"
	"github.com/keymeter/keymeter/internal/postgres"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(os.Stdout).Run(ctx, os.Args)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "keymeter:", err)
		os.Exit(1)
	}
}

func command(out io.Writer) *cli.Command {
	return &cli.Command{
		Name: "keymeter", Usage: "API keys, credits and Stripe billing behind one OpenAPI contract", Writer: out,
		Commands: []*cli.Command{
			{Name: "serve", Usage: "run the server", Description: settings(), Action: serve},
			{
				Name: "migrate", Usage: "bring the database's schema up to date", Description: "Setting: KEYMETER_DATABASE_URL.",
				Action: migrate,
			},
			{Name: "account", Usage: "manage accounts", Commands: []*cli.Command{{
				Name: "create", Usage: "create an account and print its id", Description: settingsOfServe,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "name", Usage: "a name for people to read", Required: true},
					&cli.StringFlag{Name: "external-id", Usage: "your own id for the account"},
					&cli.StringFlag{Name: "email", Usage: "where Stripe sends invoices to"},
				},
				Action: createAccount,
			}}},
			{Name: "key", Usage: "manage keys", Commands: []*cli.Command{{
				Name: "create", Usage: "create a key for an account and print it, once", Description: settingsOfServe,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "account", Usage: "the account's id", Required: true},
					&cli.StringFlag{Name: "name", Usage: "a name for people to read", Value: "Default"},
					&cli.IntFlag{Name: "expires-in-days", Usage: "days until it expires, 1 to 365; never if left out"},
				},
				Action: createKey,
			}}},
			{Name: "ledger", Usage: "look after the ledger", Commands: []*cli.Command{ledgerVerify()}},
			{Name: "stripe", Usage: "manage Stripe's account", Commands: []*cli.Command{stripeSync(), stripeReconcile()}},
			{Name: "version", Usage: "print the version", Action: version},
		},
	}
}

const settingsOfServe = "Settings are those of serve."

func settings() string {
	var list strings.Builder
	list.WriteString("Settings are environment variables:\n\n")
	app.PrintSettings(&list)
	return list.String()
}

func outside(cfg app.Config) app.Outside {
	return app.Outside{Now: time.Now, Rand: rand.Reader, Logger: app.NewLogger(cfg, os.Stderr)}
}

func build(ctx context.Context) (*app.App, app.Config, error) {
	cfg, err := app.ReadConfig(os.Environ())
	if err != nil {
		return nil, cfg, err
	}
	a, err := app.Build(ctx, cfg, outside(cfg))
	return a, cfg, err
}

func serve(ctx context.Context, _ *cli.Command) error {
	a, cfg, err := build(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	listener, err := a.Listen(ctx)
	if err != nil {
		return err
	}
	outside(cfg).Logger.Info("serving", "address", listener.Addr().String())
	return a.Run(ctx, listener)
}

func migrate(ctx context.Context, _ *cli.Command) error {
	url := os.Getenv("KEYMETER_DATABASE_URL") // all that this command needs of the settings
	if url == "" {
		return errors.New("settings: KEYMETER_DATABASE_URL is not set")
	}
	pool, err := postgres.Open(ctx, url, 0)
	if err != nil {
		return err
	}
	defer pool.Close()
	return postgres.Migrate(ctx, pool)
}

func createAccount(ctx context.Context, c *cli.Command) error {
	if err := check(c, "CreateAccountRequest", map[string]string{
		"name": "name", "externalId": "external-id", "email": "email",
	}); err != nil {
		return err
	}
	a, _, err := build(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	account, err := a.CreateAccount(ctx, accounts.CreateParams{
		Name: c.String("name"), ExternalID: optional(c, "external-id"), Email: optional(c, "email"),
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.Root().Writer, account.ID)
	return err
}

func createKey(ctx context.Context, c *cli.Command) error {
	err := check(c, "CreateKeyRequest", map[string]string{"name": "name", "expiresInDays": "expires-in-days"})
	if err != nil {
		return err
	}
	a, _, err := build(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	created, err := a.CreateKey(ctx, c.String("account"), keys.CreateParams{
		Name: c.String("name"), ExpiresInDays: c.Int("expires-in-days"),
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.Root().Writer, created.Secret.Reveal())
	return err
}

// check holds what the flags say to the contract, which bounds it as it does a request. flags are by field.
func check(c *cli.Command, schema string, flags map[string]string) error {
	value := map[string]any{}
	for field, flag := range flags {
		if c.IsSet(flag) {
			value[field] = c.Value(flag)
		}
	}
	return httpapi.CheckRequest(schema, value)
}

func optional(c *cli.Command, flag string) *string {
	if !c.IsSet(flag) {
		return nil
	}
	value := c.String(flag)
	return &value
}

func version(_ context.Context, c *cli.Command) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("this binary has no build information")
	}
	_, err := fmt.Fprintln(c.Root().Writer, "keymeter", info.Main.Version, info.GoVersion)
	return err
}
