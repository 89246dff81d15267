package stripesim_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/stripesim"
)

func readState(t *testing.T, b *bundle) string {
	t.Helper()
	content, err := os.ReadFile(b.cfg.StateFile)
	require.NoError(t, err)
	return string(content)
}

// witness notes what is in the state file when the first byte of an answer is sent.
type witness struct {
	*httptest.ResponseRecorder
	file string
	disk string
}

func (w *witness) WriteHeader(status int) {
	content, err := os.ReadFile(w.file)
	if err == nil {
		w.disk = string(content)
	}
	w.ResponseRecorder.WriteHeader(status)
}

// TestAnswersOnlyWhatIsSaved kills the simulator, in effect, at the moment each
// answer begins.
func TestAnswersOnlyWhatIsSaved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	cust := "customer=" + sub.Customer.ID
	price := b.price(t, "pro").ID
	whole := b.portal(t, sub, nil)
	flow := b.portal(t, sub, b.updateFlow(t, sub, "scale"))
	open, late := b.checkout(t, nil, "pro"), b.checkout(t, nil, "pro")
	session := "mode=subscription&success_url=http://a.test/?a=1%26b=2&line_items[0][quantity]=1&line_items[0][price]=" + price

	send := func(want int, method, path, form string, headers ...string) {
		t.Helper()
		before := readState(t, b)
		w := &witness{ResponseRecorder: httptest.NewRecorder(), file: b.cfg.StateFile}
		ask(b.sim, w, method, path, form, headers...)
		require.Equal(t, want, w.Code, w.Body)
		require.NotEqual(t, before, w.disk, "%s %s: the answer came first", method, path)
		require.Equal(t, readState(t, b), w.disk)
	}
	send(200, "POST", "/v1/customers", awkward)
	send(404, "POST", "/v1/customers/cus_x", "", "Idempotency-Key", "an error is remembered as well")
	send(200, "POST", "/v1/customers/"+sub.Customer.ID, "phone=1")
	send(200, "POST", "/v1/checkout/sessions", session)
	send(303, "POST", page(t, open.URL)+"/complete", "email=b@example.com")
	send(200, "POST", "/v1/checkout/sessions/"+late.ID+"/expire", "")
	send(200, "POST", "/v1/billing_portal/sessions", cust)
	send(303, "POST", flow+"/confirm", "")
	send(303, "POST", whole+"/change", "subscription="+sub.ID+"&price="+price)
	send(303, "POST", whole+"/keep", "subscription="+sub.ID)
	send(303, "POST", whole+"/cancel", "when=period_end&subscription="+sub.ID)
	send(303, "POST", whole+"/resume", "subscription="+sub.ID)
	send(200, "POST", "/v1/subscriptions/"+sub.ID, "metadata[a]=b")
	for _, path := range []string{"/v1/customers", whole} { // what the clock does is seen by a reader first
		b.clock.Set(b.clock.Now().AddDate(0, 1, 1))
		send(200, "GET", path, "")
	}
	b.clock.Set(b.clock.Now().AddDate(0, 1, 1))
	send(410, "GET", page(t, open.URL), "")
	send(200, "DELETE", "/v1/subscriptions/"+sub.ID, "")

	entries, err := os.ReadDir(filepath.Dir(b.cfg.StateFile))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file is left")
	info, err := entries[0].Info()
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestMethodsReturnWhenSaved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	cs := b.checkout(t, nil, "pro")
	before := readState(t, b)
	requireSaved := func() {
		t.Helper()
		now := readState(t, b)
		require.NotEqual(t, before, now)
		before = now
	}
	require.NoError(t, b.sim.CompleteCheckout(cs.ID))
	requireSaved()
	require.NoError(t, b.sim.CancelSubscription(sub.ID, true))
	requireSaved()
	b.clock.Set(b.clock.Now().AddDate(0, 1, 1))
	b.sim.Advance()
	requireSaved()
}

func TestReadingDoesNotTouchTheStateFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	cs := b.checkout(t, nil, "pro")
	whole := b.portal(t, sub, nil)
	before, err := os.Stat(b.cfg.StateFile)
	require.NoError(t, err)

	account(t, b.sim)
	b.do(t, "GET", page(t, cs.URL), "")
	b.do(t, "GET", whole, "")
	require.Equal(t, http.StatusNotFound, b.do(t, "GET", "/v1/customers/cus_x", "").status)
	require.Equal(t, http.StatusBadRequest, b.do(t, "POST", "/v1/customers", "emial=a", "Idempotency-Key", "k").status)
	require.Equal(t, http.StatusUnauthorized, b.do(t, "POST", "/v1/customers", "", "Authorization", "").status)
	require.Equal(t, http.StatusConflict, b.do(t, "POST", whole+"/confirm", "").status)
	b.sim.Advance()
	b.sim.SetWebhook("http://app.test/hook", testSecret)
	b.restart(t)

	after, err := os.Stat(b.cfg.StateFile)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after), "a save replaces the file")
	require.Equal(t, before.ModTime(), after.ModTime())
}

func TestRefusesADamagedStateFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.portal(t, b.subscribe(t, "starter"), nil)
	b.downgrade(t, b.subscribe(t, "pro"), "starter")
	good := readState(t, b)
	replace := func(old, by string) string {
		require.Contains(t, good, old)
		return strings.Replace(good, old, by, 1)
	}
	customer := get(t, b.sim, "/v1/customers")
	_, id, _ := strings.Cut(customer, `"id": "`)
	id, _, _ = strings.Cut(id, `"`)
	damaged := map[string]string{
		"empty":               "",
		"null":                "null",
		"cut off":             good[:len(good)/2],
		"with a tail":         good + "{}",
		"another kind":        "customers: []",
		"another JSON":        "{}",
		"an older format":     replace(`"Format":3`, `"Format":2`),
		"a newer format":      replace(`"Format":3`, `"Format":4`),
		"an unknown field":    replace(`"UnitAmount"`, `"UnitAmounts"`),
		"a wrong type":        replace(`"UnitAmount":`, `"UnitAmount":-0.5e`),
		"an object twice":     replace(`"Customers":[`, `"Customers":[{"ID":"`+id+`"},`),
		"an object of no id":  replace(`"Customers":[`, `"Customers":[{},`),
		"no object":           replace(`"Customers":[`, `"Customers":[null,`),
		"a lost object":       replace(`"ID":"`+id+`"`, `"ID":"cus_other"`),
		"a missing reference": replace(`"Prices":[`, `"Prices":[{"ID":"price_1"},`),
	}
	for _, lost := range [][2]string{
		{"Prices", "prod"},
		{"Sessions", "cus"},
		{"Sessions", "price"},
		{"Subscriptions", "cus"},
		{"Subscriptions", "price"},
		{"Invoices", "cus"},
		{"Invoices", "price"},
		{"Portals", "cus"},
		{"Schedules", "price"},
		{"Schedules", "sub"},
		{"Subscriptions", "sub_sched"},
	} {
		damaged["a lost "+lost[1]+" in "+lost[0]] = loseReferences(good, lost[0], lost[1])
	}
	for name, content := range damaged {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := b.cfg
			cfg.StateFile = filepath.Join(t.TempDir(), "stripe.json")
			require.NoError(t, os.WriteFile(cfg.StateFile, []byte(content), 0o600))
			_, err := stripesim.New(cfg)
			require.ErrorContains(t, err, cfg.StateFile)
			t.Log(err)
			left, err := os.ReadFile(cfg.StateFile)
			require.NoError(t, err)
			require.Equal(t, content, string(left), "it is not for the simulator to reset it")
		})
	}
}

// loseReferences makes one section of the file point at objects of one kind that
// are nowhere.
func loseReferences(good, section, kind string) string {
	from := strings.Index(good, `"`+section+`":[`)
	to := from + strings.Index(good[from:], `],"`)
	return good[:from] + regexp.MustCompile(`\b`+kind+`_\w+`).ReplaceAllString(good[from:to], kind+"_lost") + good[to:]
}

func TestRefusesAStateFileItCannotUse(t *testing.T) {
	t.Parallel()
	cfg := config(time.Now)
	cfg.StateFile = t.TempDir() // not a file
	_, err := stripesim.New(cfg)
	require.ErrorContains(t, err, cfg.StateFile)
	cfg.StateFile = filepath.Join(t.TempDir(), "missing", "stripe.json")
	_, err = stripesim.New(cfg)
	require.ErrorContains(t, err, cfg.StateFile)
}

func TestRemovesWhatAKilledWriteLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	folder := filepath.Dir(b.cfg.StateFile)
	for _, name := range []string{".stripe.json-123", "stripe.json.backup"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte("{"), 0o600))
	}
	b.restart(t)
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, "stripe.json", entries[0].Name())
	require.Equal(t, "stripe.json.backup", entries[1].Name())
}

// TestUnsavedIsNotAnswered takes the folder away and brings it back.
func TestUnsavedIsNotAnswered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cs := b.checkout(t, b.customer(t), "starter")
	folder := filepath.Dir(b.cfg.StateFile)
	require.NoError(t, os.RemoveAll(folder))
	failed := b.do(t, "POST", "/v1/customers", "name=A", "Idempotency-Key", "k")
	require.Equal(t, http.StatusInternalServerError, failed.status)
	require.Equal(t, "api_error", failed.error("type"))
	require.Equal(t, http.StatusInternalServerError, b.do(t, "GET", "/v1/customers", "").status, "to show it is to report it")
	require.Equal(t, http.StatusInternalServerError, b.do(t, "POST", page(t, cs.URL)+"/complete", "").status)
	require.Error(t, b.sim.CompleteCheckout(cs.ID))

	require.NoError(t, os.MkdirAll(b.cfg.StateFile, 0o700)) // a folder, which no file can replace
	require.Error(t, b.sim.CompleteCheckout(cs.ID))
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file is left")
	require.NoError(t, os.Remove(b.cfg.StateFile))
	retried := b.do(t, "POST", "/v1/customers", "name=A", "Idempotency-Key", "k")
	require.Equal(t, http.StatusOK, retried.status)
	require.Contains(t, readState(t, b), retried.body["id"])
	require.Len(t, b.do(t, "GET", "/v1/customers", "").body["data"], 2)
}

// TestAttemptsAreSaved looks into the file whenever the receiver is called.
func TestAttemptsAreSaved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config(time.Now)
		cfg.StateFile = filepath.Join(t.TempDir(), "stripe.json")
		cfg.WebhookURL, cfg.WebhookSecret = "http://app.test/hook", testSecret
		load := func() *stripesim.Sim {
			sim, err := stripesim.New(cfg)
			require.NoError(t, err)
			return sim
		}
		var seen []int
		cfg.HTTPClient = &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
			seen = append(seen, load().Events()[0].Attempts)
			return nil, errors.New("no route")
		})}
		makeCustomer(t, load())
		settle := func(sim *stripesim.Sim, limit time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			require.NoError(t, sim.Run(ctx))
		}
		settle(load(), time.Second) // at 0, 200 and 600 ms
		require.Equal(t, []int{0, 1, 2}, seen)
		settle(load(), time.Hour)
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, seen, "a restart goes on counting")
		require.Equal(t, stripesim.GivenUp, load().Events()[0].State)
		settle(load(), time.Hour)
		require.Len(t, seen, 10)
	})
}

func TestAShutdownIsNoAttempt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cfg := config(time.Now)
	cfg.WebhookURL, cfg.WebhookSecret = "http://app.test/hook", testSecret
	cfg.HTTPClient = &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
		cancel()
		return nil, ctx.Err()
	})}
	sim, err := stripesim.New(cfg)
	require.NoError(t, err)
	makeCustomer(t, sim)
	require.NoError(t, sim.Run(ctx))
	require.Zero(t, sim.Events()[0].Attempts)
}

// TestPendingEventsWaitForAReceiver is a restart whose receiver becomes known
// only later.
func TestPendingEventsWaitForAReceiver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sim.SetWebhook("http://app.test/hook", testSecret)
	b.customer(t)
	second := b.restart(t)
	b.sim = second.sim // the first is dead
	second.run(t)
	attempted := func() bool { return second.sim.Events()[0].Attempts > 0 }
	require.Never(t, attempted, 50*time.Millisecond, time.Millisecond)
	hook := newReceiver(t, 0)
	second.sim.SetWebhook(hook.URL, testSecret)
	second.waitDelivered(t)
	require.Equal(t, []string{"customer.created"}, hook.types())
}

// TestCatalogueChanges follows an account through a new release of its prices.
func TestCatalogueChanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	whole := b.portal(t, sub, nil)
	session := b.do(t, "GET", "/v1/checkout/sessions", "").body["data"].([]any)[0].(map[string]any)["id"].(string)
	old := map[string]string{}
	for _, key := range []string{"starter", "pro", "scale"} {
		old[key] = b.price(t, key).ID
	}
	second := b.restart(t, func(c *stripesim.Config) {
		c.Prices = []stripesim.Price{
			{LookupKey: "starter", ProductName: "Starter", UnitAmount: 2100, Metadata: c.Prices[0].Metadata},
			{LookupKey: "pro", ProductName: "Professional", UnitAmount: 9900},
			{LookupKey: "scale", ProductName: "Scale", UnitAmount: 49900, Metadata: map[string]string{"a": "b"}},
			{LookupKey: "team", ProductName: "Team", UnitAmount: 19900},
		}
	})
	b.sim, b.cfg = second.sim, second.cfg
	byKey := func(key string) map[string]any {
		list := second.do(t, "GET", "/v1/prices?lookup_keys[]="+key, "").body["data"].([]any)
		require.Len(t, list, 1, key)
		return list[0].(map[string]any)
	}
	starter, pro, scale := byKey("starter"), byKey("pro"), byKey("scale")
	require.Equal(t, float64(2100), starter["unit_amount"])
	require.NotEqual(t, old["starter"], starter["id"])
	require.NotEqual(t, old["pro"], pro["id"])
	require.Equal(t, map[string]any{"a": "b"}, scale["metadata"])
	require.NotEqual(t, old["scale"], scale["id"])
	team := byKey("team")

	retired := second.do(t, "GET", "/v1/prices/"+old["starter"], "").body
	require.Equal(t, float64(1900), retired["unit_amount"])
	require.Nil(t, retired["lookup_key"])
	require.Equal(t, true, retired["active"])
	require.Equal(t, retired["product"], starter["product"], "of one name there is one product")
	require.NotEqual(t, second.do(t, "GET", "/v1/prices/"+old["pro"], "").body["product"], pro["product"])
	for _, path := range []string{
		"/v1/subscriptions/" + sub.ID, "/v1/invoices/" + sub.LatestInvoice.ID, "/v1/checkout/sessions/" + session + "?expand[]=line_items",
	} {
		require.Equal(t, retired, onlyPrice(second.do(t, "GET", path, "").body), "who has the old price keeps it: %s", path)
	}

	shown := second.do(t, "GET", whole, "").raw
	require.Contains(t, shown, "Starter</strong>, $19.00")
	require.Contains(t, shown, "Change to Starter ($21.00)")
	require.Contains(t, shown, "Change to Professional")
	require.NotContains(t, shown, "Change to Pro (", "what was replaced is not on offer")

	second = second.restart(t, func(c *stripesim.Config) { c.Prices = nil })
	b.sim, b.cfg = second.sim, second.cfg
	require.Equal(t, team, byKey("team"), "no longer configured, and as it was")
}

// onlyPrice is the price of a subscription's, an invoice's or a session's only item.
func onlyPrice(obj map[string]any) any {
	for _, list := range []string{"items", "lines", "line_items"} {
		if l, ok := obj[list].(map[string]any); ok {
			return l["data"].([]any)[0].(map[string]any)["price"]
		}
	}
	return nil
}

func TestRefusesInvalidUTF8(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for form, header := range map[string]string{"name=%FF": "k", "metadata[%FF]=a": "k", "name=A": "k\xff"} {
		require.Equal(t, http.StatusBadRequest, b.do(t, "POST", "/v1/customers", form, "Idempotency-Key", header).status)
	}
	cs := b.checkout(t, nil, "starter")
	require.Equal(t, http.StatusSeeOther, b.do(t, "POST", page(t, cs.URL)+"/complete", "email=%FF").status)
}
