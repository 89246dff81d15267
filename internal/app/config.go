package app

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/httpapi"
	"github.com/keymeter/keymeter/internal/keys"
	"github.com/keymeter/keymeter/internal/plans"
)

// Config is the settings of a server. Each is an environment variable; PrintSettings lists them.
type Config struct {
	DatabaseURL      string        `env:"KEYMETER_DATABASE_URL,required,notEmpty,unset" help:"Postgres, as postgres://user:password@host:5432/database"`
	DatabaseMaxConns int32         `env:"KEYMETER_DATABASE_MAX_CONNS" envDefault:"20" help:"connections to Postgres at most"`
	CacheKeys        int           `env:"KEYMETER_CACHE_KEYS" envDefault:"1000000" help:"keys that are kept in memory at most"`
	MigrateOnStart   bool          `env:"KEYMETER_MIGRATE_ON_START" envDefault:"false" help:"bring the schema up to date before serving"`
	Addr             string        `env:"KEYMETER_ADDR" envDefault:":8080" help:"address to listen on"`
	ShutdownTimeout  time.Duration `env:"KEYMETER_SHUTDOWN_TIMEOUT" envDefault:"30s" help:"how long running requests may take once the server is told to stop"`

	Peppers        []string `env:"KEYMETER_PEPPERS,required,notEmpty,unset" help:"secrets that keys are hashed under, as 1:BASE64 of 32 bytes or more, several by commas; the highest version is used for new keys"`
	ServiceTokens  []string `env:"KEYMETER_SERVICE_TOKENS,unset" help:"tokens of your services, 32 characters or more, several by commas"`
	OperatorTokens []string `env:"KEYMETER_OPERATOR_TOKENS,unset" help:"tokens of your operators, 32 characters or more, several by commas"`
	KeyVendor      string   `env:"KEYMETER_KEY_VENDOR" envDefault:"plabs" help:"first part of your customers' keys"`
	KeyEnvironment string   `env:"KEYMETER_KEY_ENVIRONMENT" envDefault:"live" help:"live or test; part of your customers' keys"`
	Catalogue      string   `env:"KEYMETER_CATALOGUE" help:"file with the plan catalogue, instead of the embedded one"`

	StripeSecretKey      string   `env:"KEYMETER_STRIPE_SECRET_KEY,unset" help:"Stripe's secret or restricted key; without it billing answers 503"`
	StripeWebhookSecrets []string `env:"KEYMETER_STRIPE_WEBHOOK_SECRETS,unset" help:"signing secrets of the webhook endpoint, two by a comma while one is rotated"`
	StripeAPIURL         string   `env:"KEYMETER_STRIPE_API_URL" help:"another address of Stripe's API, for tests"`
	AllowedOrigins       []string `env:"KEYMETER_ALLOWED_ORIGINS" help:"origins that successUrl, cancelUrl and returnUrl may be on, several by commas; any if empty"`
	PortalReturnURL      string   `env:"KEYMETER_PORTAL_RETURN_URL" help:"where the billing portal leads back to if a request does not say"`

	LogFormat string     `env:"KEYMETER_LOG_FORMAT" envDefault:"json" help:"json or text"`
	LogLevel  slog.Level `env:"KEYMETER_LOG_LEVEL" envDefault:"INFO" help:"DEBUG, INFO, WARN or ERROR"`
}

// ReadConfig reads the settings from an environment, such as os.Environ. Secrets are removed from that of the process,
// so that no child process has them.
func ReadConfig(environment []string) (Config, error) {
	cfg, err := env.ParseAsWithOptions[Config](env.Options{Environment: env.ToMap(environment)})
	if err != nil {
		return Config{}, fmt.Errorf("settings: %w", err)
	}
	if _, err := cfg.parse(); err != nil {
		return Config{}, fmt.Errorf("settings: %w", err)
	}
	return cfg, nil
}

// PrintSettings lists the settings with what they mean.
func PrintSettings(w io.Writer) {
	for field := range reflect.TypeFor[Config]().Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("env"), ",")
		note := ""
		if strings.Contains(options, "required") {
			note = " (required)"
		} else if value := field.Tag.Get("envDefault"); value != "" {
			note = " (default " + value + ")"
		}
		_, _ = fmt.Fprintf(w, "  %-34s %s%s\n", name, field.Tag.Get("help"), note)
	}
}

// parsed is the settings in the form that the packages want.
type parsed struct {
	format    keys.Format
	peppers   *keys.Peppers
	tokens    httpapi.Tokens
	catalogue *plans.Catalogue
	redirects billing.Redirects
}

// parse checks all settings, so that a start says at once all that is wrong.
func (c Config) parse() (parsed, error) {
	var p parsed
	var errs [6]error
	p.format, errs[0] = keys.NewFormat(c.KeyVendor, c.KeyEnvironment)
	p.peppers, errs[1] = parsePeppers(c.Peppers)
	p.tokens, errs[2] = httpapi.NewTokens(c.ServiceTokens, c.OperatorTokens)
	p.catalogue, errs[3] = plans.Load(c.Catalogue)
	p.redirects, errs[4] = billing.NewRedirects(c.AllowedOrigins, c.PortalReturnURL)
	switch {
	case c.LogFormat != "json" && c.LogFormat != "text":
		errs[5] = fmt.Errorf("KEYMETER_LOG_FORMAT %q must be json or text", c.LogFormat)
	case c.StripeSecretKey != "" && len(c.StripeWebhookSecrets) == 0:
		errs[5] = errors.New("KEYMETER_STRIPE_WEBHOOK_SECRETS is needed with KEYMETER_STRIPE_SECRET_KEY: tiers follow from webhooks")
	}
	return p, errors.Join(errs[:]...)
}

func parsePeppers(entries []string) (*keys.Peppers, error) {
	secrets := map[int32][]byte{}
	for i, entry := range entries {
		number, encoded, _ := strings.Cut(entry, ":")
		version, err := strconv.ParseInt(number, 10, 32)
		if err != nil || version < 1 {
			return nil, fmt.Errorf("KEYMETER_PEPPERS: entry %d must be like 1:BASE64", i+1)
		}
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, fmt.Errorf("KEYMETER_PEPPERS: entry %d is not base 64", i+1)
		}
		secrets[int32(version)] = secret
	}
	return keys.NewPeppers(secrets)
}
