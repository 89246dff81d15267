package stripesim_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/stripesim"
)

func TestHomeShowsAnInvoiceWithOverage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Contains(t, b.do(t, "GET", "/", "").raw, "There are no customers yet")
	sub, draft := b.renewing(t)
	b.do(t, "POST", "/v1/invoiceitems", "customer="+sub.Customer.ID+"&invoice="+draft.ID+"&amount=751&description=1%2C001+credits+of+overage")
	before := b.sim.Now()
	moved := b.do(t, "POST", "/advance", "by=1h")
	require.Equal(t, 303, moved.status)
	require.Equal(t, "/", moved.header.Get("Location"))
	require.Equal(t, before.Add(time.Hour), b.sim.Now())
	home := b.do(t, "GET", "/", "")
	for _, want := range []string{
		b.sim.Now().Format("2 January 2006, 15:04:05 UTC"), sub.ID, "1,001 credits of overage", "$7.51", "$26.51", "paid",
		"Advance by 1 month", "1 × Starter (at $19.00 / month)",
	} {
		require.Contains(t, home.raw, want)
	}
	require.NotContains(t, home.raw, "<script")
	require.Contains(t, home.header.Get("Content-Security-Policy"), "default-src 'none'")
	require.Equal(t, 303, b.do(t, "POST", "/advance", "by=1mo").status)
	require.Len(t, b.billed(t, sub.ID), 3)
	require.Equal(t, 400, b.do(t, "POST", "/advance", "by=-1h").status)
	require.Equal(t, 404, b.do(t, "GET", "/nothing", "").status)
}

func TestControls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hook := newReceiver(t, 0)
	b.sim.SetWebhook(hook.URL, testSecret)
	b.run(t)
	send := func(want int, method, path, body string) string {
		t.Helper()
		a := b.do(t, method, path, body)
		require.Equal(t, want, a.status, a.raw)
		return a.raw
	}
	cust := b.customer(t)
	send(200, "POST", "/sim/customers/"+cust.ID+"/card", `{"outcome": "declines", "times": 1}`)
	cs := b.checkout(t, cust, "pro")
	require.Contains(t, send(400, "POST", "/sim/checkouts/"+cs.ID+"/complete", ""), "declined")
	send(200, "POST", "/sim/checkouts/"+cs.ID+"/complete", "")
	sub := b.api.Subscriptions.List(&stripe.SubscriptionListParams{Customer: stripe.String(cust.ID)})
	require.True(t, sub.Next())
	inv := b.billed(t, sub.Subscription().ID)[0]

	send(200, "POST", "/sim/deliveries/hold", "")
	require.Contains(t, send(200, "POST", "/sim/refunds", `{"of": "`+inv.ID+`", "amount": 100}`), "re_")
	events := b.sim.Events()
	send(200, "POST", "/sim/events/"+events[len(events)-1].ID+"/deliver", "")
	require.Equal(t, stripesim.Delivered, b.sim.Events()[len(events)-1].State)
	_, id, _ := strings.Cut(send(200, "POST", "/sim/disputes", `{"of": "`+inv.ID+`"}`), `"id": "`)
	send(200, "POST", "/sim/disputes/"+strings.Split(id, `"`)[0]+"/close", `{"won": true}`)
	send(200, "POST", "/sim/deliveries/release", "")
	b.waitDelivered(t)

	send(200, "POST", "/sim/faults", `{"kind": "unavailable", "route": "GET /v1/prices", "retryAfter": 3, "delay": "1ms"}`)
	require.Equal(t, "3", b.do(t, "GET", "/v1/prices", "").header.Get("Retry-After"))
	require.Contains(t, send(200, "GET", "/sim/faults", ""), "unavailable")
	send(200, "DELETE", "/sim/faults", "")
	require.Equal(t, http.StatusOK, b.do(t, "GET", "/v1/prices", "").status)

	send(200, "POST", "/sim/dunning", `{"retries": ["24h"], "end": "unpaid"}`)
	send(200, "POST", "/sim/customers/"+cust.ID+"/card", `{"outcome": "declines"}`)
	send(200, "POST", "/sim/advance", `{"by": "1mo"}`)
	send(200, "POST", "/sim/advance", `{"by": "26h"}`)
	require.Equal(t, stripe.SubscriptionStatusUnpaid, b.get(t, sub.Subscription().ID).Status)
	require.Contains(t, send(200, "GET", "/sim/time", ""), b.sim.Now().Format("2006-01-02T15:04"))
	send(200, "POST", "/sim/payload-version", `{"version": "2025-03-31.basil"}`)
	for path, body := range map[string]string{
		"/sim/payload-version": `{"version": "1"}`, "/sim/faults": `{"kind": "fire"}`, "/sim/advance": `{"by": "soon"}`,
		"/sim/dunning": `{"end": "never"}`, "/sim/refunds": `{"off": 1}`, "/sim/customers/cus_x/card": `{"outcome": "succeeds"}`,
	} {
		send(400, "POST", path, body)
	}
}

// TestDeterministic makes the same account twice from the same entropy.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	lives := []map[string]string{}
	for range 2 {
		cfg := config(func() time.Time { return day(2026, 1, 31) })
		cfg.Rand = &repeating{}
		sim, err := stripesim.New(cfg)
		require.NoError(t, err)
		makeCustomer(t, sim)
		require.NoError(t, sim.CompleteCheckout(makeSession(t, sim)))
		sim.Advance(70 * aDay)
		lives = append(lives, account(t, sim))
	}
	requireSame(t, lives[0], lives[1])
}
