package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keymeter/keymeter/internal/app"
	"github.com/keymeter/keymeter/internal/stripe"
)

func stripeSync() *cli.Command {
	return &cli.Command{
		Name: "sync", Usage: "bring Stripe's products, prices, portal and webhook in line with the plan catalogue",
		Description: "Shows what there is to do and asks before it does it. Settings: KEYMETER_STRIPE_SECRET_KEY,\n" +
			"KEYMETER_CATALOGUE, KEYMETER_STRIPE_API_URL.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "webhook-url", Usage: "where Stripe reaches this server, as https://api.example.com/webhooks/stripe; webhooks are left alone without it"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
		},
		Action: syncStripe,
	}
}

func stripeReconcile() *cli.Command {
	return &cli.Command{
		Name: "reconcile", Usage: "compare with Stripe now, as servers do every minute, and print what was found",
		Description: settingsOfServe,
		Action:      reconcileStripe,
	}
}

func reconcileStripe(ctx context.Context, c *cli.Command) error {
	a, _, err := build(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	report, err := a.Reconcile(ctx)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(c.Root().Writer)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}

func syncStripe(ctx context.Context, c *cli.Command) error {
	client, err := app.StripeClient(os.Environ(), app.Outside{Now: time.Now})
	if err != nil {
		return err
	}
	plan, err := client.PlanSync(ctx, c.String("webhook-url"))
	if err != nil {
		return err
	}
	out := c.Root().Writer
	if _, err := io.WriteString(out, describe(plan, client.Live())); err != nil || len(plan.Changes) == 0 {
		return err
	}
	if !c.Bool("yes") {
		if err := confirm(c.Root().Reader, out); err != nil {
			return err
		}
	}
	synced, err := client.ApplySync(ctx, plan, func(done stripe.Change) { _, _ = fmt.Fprintln(out, "done:", done) })
	for _, warning := range synced.Warnings {
		_, _ = fmt.Fprintln(out, "warning:", warning)
	}
	if synced.WebhookSecret != "" { // also after an error: Stripe does not tell it again
		_, _ = fmt.Fprintf(out, "\nThe endpoint's signing secret, which is shown once:\nKEYMETER_STRIPE_WEBHOOK_SECRETS=%s\n",
			synced.WebhookSecret)
	}
	return err
}

// describe writes down what a sync is about to do.
func describe(plan stripe.Sync, live bool) string {
	var text strings.Builder
	for _, warning := range plan.Warnings {
		text.WriteString("warning: " + warning + "\n")
	}
	for _, change := range plan.Changes {
		text.WriteString(change.String() + "\n")
	}
	switch {
	case len(plan.Changes) == 0:
		text.WriteString("nothing to do\n")
	case live:
		text.WriteString("\nThis is in LIVE mode.\n")
	}
	return text.String()
}

var errNobody = errors.New("nobody to ask: not a terminal; add --yes to go ahead")

// confirm asks for a yes. Whoever is not at a terminal can't be asked.
func confirm(in io.Reader, out io.Writer) error {
	file, ok := in.(*os.File)
	if !ok || !terminal(file) {
		return errNobody
	}
	if _, err := io.WriteString(out, "Go ahead? [y/N] "); err != nil {
		return err
	}
	answer, err := bufio.NewReader(file).ReadString('\n')
	switch {
	case errors.Is(err, io.EOF) && answer == "": // such as /dev/null, which is a device, too
		return errNobody
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))):
		return errors.New("nothing was changed")
	}
	return nil
}

func terminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
