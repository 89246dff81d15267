package main_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/testkit"
)

// emptyStripe is a Stripe without anything, which notes what is created and keeps nothing.
func emptyStripe(t *testing.T) (url string, created func() []string) {
	t.Helper()
	var mu sync.Mutex
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(`{"object":"list","data":[]}`))
			return
		}
		mu.Lock()
		defer mu.Unlock()
		paths = append(paths, r.URL.Path)
		_ = json.NewEncoder(w).Encode(map[string]string{"id": "new", "secret": "whsec_shown_once"})
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string { mu.Lock(); defer mu.Unlock(); return paths }
}

func TestStripeSync(t *testing.T) {
	t.Parallel()
	url, created := emptyStripe(t)
	environment := []string{"KEYMETER_STRIPE_SECRET_KEY=sk_test_1234567890", "KEYMETER_STRIPE_API_URL=" + url}
	hook := "--webhook-url=https://api.example.com/webhooks/stripe"

	out, stderr, err := run(t, environment, "stripe", "sync", hook)
	require.Error(t, err, "nobody can be asked")
	require.Contains(t, stderr, "--yes")
	require.Contains(t, out, "create price keymeter_pro_monthly: $99.00 a month")
	require.Empty(t, created())

	out, stderr, err = run(t, environment, "stripe", "sync", hook, "--yes")
	require.NoError(t, err, stderr)
	require.Contains(t, out, "done: create webhook endpoint https://api.example.com/webhooks/stripe")
	require.Equal(t, 1, strings.Count(out, "KEYMETER_STRIPE_WEBHOOK_SECRETS=whsec_shown_once"))
	require.NotContains(t, out+stderr, "sk_test_1234567890")
	require.Equal(t, []string{
		"/v1/products", "/v1/prices", "/v1/products", "/v1/prices", "/v1/products", "/v1/prices",
		"/v1/billing_portal/configurations", "/v1/billing_portal/configurations", "/v1/webhook_endpoints",
	}, created())

	out, stderr, err = run(t, environment, "stripe", "sync", "--yes")
	require.NoError(t, err, stderr)
	require.NotContains(t, out, "webhook")
}

func TestStripeSync_settings(t *testing.T) {
	t.Parallel()
	_, stderr, err := run(t, nil, "stripe", "sync")
	require.Error(t, err)
	require.Contains(t, stderr, "KEYMETER_STRIPE_SECRET_KEY")

	file := filepath.Join(t.TempDir(), "catalogue.yaml")
	require.NoError(t, os.WriteFile(file, []byte("tiers: []"), 0o600))
	_, stderr, err = run(t, []string{"KEYMETER_STRIPE_SECRET_KEY=sk_test_1", "KEYMETER_CATALOGUE=" + file}, "stripe", "sync")
	require.Error(t, err)
	require.Contains(t, stderr, "plan catalogue")
}

func TestStripeReconcile(t *testing.T) {
	t.Parallel()
	url, _ := emptyStripe(t)
	environment := append(settings(testkit.DatabaseURL(t)),
		"KEYMETER_STRIPE_SECRET_KEY=sk_test_1234567890", "KEYMETER_STRIPE_WEBHOOK_SECRETS=whsec_1", "KEYMETER_STRIPE_API_URL="+url)
	out, stderr, err := run(t, environment, "stripe", "reconcile")
	require.NoError(t, err, stderr)
	var report struct {
		Busy  bool
		Found *int
	}
	require.NoError(t, json.Unmarshal([]byte(out), &report), out)
	require.False(t, report.Busy)
	require.Zero(t, *report.Found)
	_, stderr, err = run(t, settings(testkit.DatabaseURL(t)), "stripe", "reconcile")
	require.Error(t, err)
	require.Contains(t, stderr, "billing_not_configured")
}
