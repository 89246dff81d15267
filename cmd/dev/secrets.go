package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keymeter/keymeter/internal/app"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/stripesim"
)

// secrets are made at the first run and kept: with another pepper the keys of earlier runs would be unknown.
type secrets struct {
	Pepper        string // base 64
	ServiceToken  string
	OperatorToken string
	StripeKey     string // the simulator's
	WebhookSecret string
}

func loadSecrets(path string) (secrets, error) {
	encoded, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		s := newSecrets()
		if encoded, err = json.MarshalIndent(s, "", "  "); err != nil {
			return secrets{}, err
		}
		return s, writePrivate(path, encoded)
	}
	if err != nil {
		return secrets{}, err
	}
	var s secrets
	if err := json.Unmarshal(encoded, &s); err != nil {
		return secrets{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func newSecrets() secrets {
	pepper := make([]byte, 32)
	_, _ = rand.Read(pepper) // never fails
	return secrets{
		Pepper:       base64.StdEncoding.EncodeToString(pepper),
		ServiceToken: "dev_service_" + rand.Text() + rand.Text(), OperatorToken: "dev_operator_" + rand.Text() + rand.Text(),
		StripeKey: "sk_test_" + rand.Text(), WebhookSecret: "whsec_" + rand.Text(),
	}
}

// writePrivate writes a file that only its owner may read, whole or not at all.
func writePrivate(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.Write(content)
	if err := errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return os.Rename(temporary.Name(), path)
}

// config is the settings of the server: what development knows, then what the environment says. With a Stripe key of
// your own in the environment it is Stripe that is called, not the simulator.
func (s secrets) config(databaseURL, stripeURL string) (app.Config, error) {
	settings := []string{
		"KEYMETER_DATABASE_URL=" + databaseURL, "KEYMETER_MIGRATE_ON_START=true", "KEYMETER_ADDR=127.0.0.1:8080",
		"KEYMETER_SHUTDOWN_TIMEOUT=10s", "KEYMETER_LOG_FORMAT=text", "KEYMETER_PEPPERS=1:" + s.Pepper,
		"KEYMETER_SERVICE_TOKENS=" + s.ServiceToken, "KEYMETER_OPERATOR_TOKENS=" + s.OperatorToken,
	}
	if os.Getenv("KEYMETER_STRIPE_SECRET_KEY") == "" {
		settings = append(settings, "KEYMETER_STRIPE_SECRET_KEY="+s.StripeKey,
			"KEYMETER_STRIPE_WEBHOOK_SECRETS="+s.WebhookSecret, "KEYMETER_STRIPE_API_URL="+stripeURL)
	}
	environment := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "KEYMETER_DATABASE_URL=") || strings.HasSuffix(variable, "=") // empty is unset
	})
	return app.ReadConfig(append(settings, environment...))
}

// simulatedPrices are the catalogue's prices as they would stand at Stripe.
func simulatedPrices() ([]stripesim.Price, error) {
	catalogue, err := plans.Load(os.Getenv("KEYMETER_CATALOGUE"))
	if err != nil {
		return nil, err
	}
	var prices []stripesim.Price
	for _, tier := range []plans.Tier{plans.Starter, plans.Pro, plans.Scale} {
		plan := catalogue.Plan(tier)
		price, ok := new(big.Rat).SetString(plan.MonthlyPrice)
		if !ok {
			return nil, fmt.Errorf("price of %s: %q", tier, plan.MonthlyPrice)
		}
		cents := price.Mul(price, big.NewRat(100, 1))
		if !cents.IsInt() {
			return nil, fmt.Errorf("price of %s is not a whole number of cents", tier)
		}
		prices = append(prices, stripesim.Price{
			LookupKey: plan.StripeLookupKey, ProductName: plan.Name, UnitAmount: cents.Num().Int64(),
		})
	}
	return prices, nil
}
