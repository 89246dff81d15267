package app

import (
	"fmt"

	"github.com/caarlos0/env/v11"

	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/stripe"
)

// stripeConfig is the settings that Stripe alone needs. They are those of Config.
type stripeConfig struct {
	SecretKey string `env:"KEYMETER_STRIPE_SECRET_KEY,required,notEmpty,unset"`
	APIURL    string `env:"KEYMETER_STRIPE_API_URL"`
	Catalogue string `env:"KEYMETER_CATALOGUE"`
}

// StripeClient returns a client of Stripe, for the command line. It needs no other settings than Stripe's and the
// catalogue.
func StripeClient(environment []string, o Outside) (*stripe.Client, error) {
	cfg, err := env.ParseAsWithOptions[stripeConfig](env.Options{Environment: env.ToMap(environment)})
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	catalogue, err := plans.Load(cfg.Catalogue)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return stripe.New(stripe.Config{
		SecretKey: cfg.SecretKey, APIURL: cfg.APIURL, Catalogue: catalogue, Now: o.Now,
	}), nil
}
