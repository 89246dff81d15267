package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/keymeter/keymeter/internal/accounts"
	"github.com/keymeter/keymeter/internal/app"
	"github.com/keymeter/keymeter/internal/keys"
)

// demoAccount is the external id of the account that is there from the first run on.
const demoAccount = "demo"

// demo sees to it that there is a demo account, and that dev.env has a key of it which works.
func demo(ctx context.Context, a *app.App, url, simulator string, s secrets) error {
	path := filepath.Join(home, "dev.env")
	key, err := readKey(path)
	if err != nil {
		return err
	}
	if !a.Recognises(ctx, key) {
		if key, err = newDemoKey(ctx, a); err != nil {
			return fmt.Errorf("demo account: %w", err)
		}
	}
	return writePrivate(path, fmt.Appendf(nil, `# Credentials of this development server. Made anew as needed; do not use elsewhere.
export KEYMETER_URL=%s
export KEYMETER_API_KEY=%s
export KEYMETER_SERVICE_TOKEN=%s
export KEYMETER_OPERATOR_TOKEN=%s
export KEYMETER_SIMULATOR_URL=%s
`, url, key, s.ServiceToken, s.OperatorToken, simulator))
}

func newDemoKey(ctx context.Context, a *app.App) (string, error) {
	externalID, email := demoAccount, "demo@example.com"
	account, err := a.CreateAccount(ctx, accounts.CreateParams{Name: "Demo", ExternalID: &externalID, Email: &email})
	if errors.Is(err, accounts.ErrExists) {
		account, err = a.AccountByExternalID(ctx, externalID)
	}
	if err != nil {
		return "", err
	}
	created, err := a.CreateKey(ctx, account.ID, keys.CreateParams{Name: "Demo key"})
	return created.Secret.Reveal(), err
}

// readKey returns the key that an earlier run wrote, "" if none did.
func readKey(path string) (string, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		if key, ok := strings.CutPrefix(lines.Text(), "export KEYMETER_API_KEY="); ok {
			return key, nil
		}
	}
	return "", lines.Err()
}
