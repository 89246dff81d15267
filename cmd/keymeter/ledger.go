package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"
)

func ledgerVerify() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "recompute every balance and total from the ledger's entries and report what differs",
		Description: settingsOfServe,
		Action:      verifyLedger,
	}
}

func verifyLedger(ctx context.Context, c *cli.Command) error {
	a, _, err := build(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	found, err := a.VerifyLedger(ctx)
	if err != nil {
		return err
	}
	for _, d := range found {
		_, _ = fmt.Fprintf(c.Root().Writer, "%s: %s, %s\n", d.AccountID, d.Rule, d.Found)
	}
	if len(found) > 0 {
		return fmt.Errorf("the ledger has %d differences", len(found))
	}
	_, err = fmt.Fprintln(c.Root().Writer, "0 differences")
	return err
}
