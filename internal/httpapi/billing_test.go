package httpapi_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/app"
	"github.com/keymeter/keymeter/internal/testkit"
)

type session struct{ URL, SessionID string }

func checkout(tier string) map[string]any {
	return map[string]any{
		"tier": tier, "successUrl": "https://yourapp.com/billing/success?session={CHECKOUT_SESSION_ID}",
		"cancelUrl": "https://yourapp.com/billing/cancel",
	}
}

func (w *world) checkout(c customer, tier string, headers ...header) response {
	w.t.Helper()
	return w.call("POST", "/v1/billing/checkout", checkout(tier), append(headers, c.auth())...)
}

// click does what a person does on a page of the simulator, waits for what follows, and returns where it leads.
func (w *world) click(page string, form ...string) string {
	w.t.Helper()
	to := w.press(page, form...)
	w.delivered()
	return to
}

// press sends a form, of names and values, to a page.
func (w *world) press(page string, form ...string) string {
	w.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	req, err := http.NewRequestWithContext(context.Background(), "POST", page, strings.NewReader(values.Encode()))
	require.NoError(w.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := client.Do(req)
	require.NoError(w.t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(w.t, http.StatusSeeOther, res.StatusCode, page)
	return res.Header.Get("Location")
}

// delivered waits until the server has received every webhook and worked them off.
func (w *world) delivered() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(w.t, w.sim.WaitDelivered(ctx))
	w.workedOff()
}

// workedOff waits until the inbox of Stripe's events is empty.
func (w *world) workedOff() {
	w.t.Helper()
	testkit.Eventually(w.t, "an empty inbox", func() bool { return w.count("stripe_events WHERE handled_at IS NULL") == 0 })
}

// subscribe goes through checkout.
func (w *world) subscribe(c customer, tier string) {
	w.t.Helper()
	var s session
	w.checkout(c, tier).want(http.StatusOK, &s)
	w.click(s.URL + "/complete")
	require.Equal(w.t, tier, w.subscription(c).Tier)
}

func TestCheckout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.record(event{"id": "before", "accountId": c.ID, "category": "rag", "credits": 1000}).want(http.StatusOK)

	var s map[string]any
	w.checkout(c, "pro").want(http.StatusOK, &s)
	require.Len(t, s, 2)
	require.True(t, strings.HasPrefix(s["url"].(string), w.stripe.URL+"/c/pay/cs_"), s["url"])
	require.Regexp(t, `^cs_`, s["sessionId"])
	require.Equal(t, "free", w.subscription(c).Tier, "not before it is paid")

	to := w.click(s["url"].(string) + "/complete")
	require.Equal(t, "https://yourapp.com/billing/success?session="+s["sessionId"].(string), to)
	sub := w.subscription(c)
	require.Equal(t, "pro", sub.Tier)
	require.Equal(t, "Pro ($99/mo)", sub.TierDisplay)
	require.Equal(t, credits{0, 200000, 200000}, sub.Credits)
	require.Regexp(t, `^cus_`, *sub.StripeCustomerID)
	require.Equal(t, "2026-04-21T10:30:00Z", sub.TierExpiresAt.Format(time.RFC3339))
	require.Equal(t, 1, w.count("credit_grants WHERE account_id = $1 AND amount = 200000", c.ID))

	t.Run("the account is on what Stripe has of it", func(t *testing.T) {
		for path, fields := range map[string][]string{
			"/v1/checkout/sessions/" + s["sessionId"].(string): {`"client_reference_id":"` + c.ID, `"keymeter_account_id":"` + c.ID},
			"/v1/customers/" + *sub.StripeCustomerID:           {`"keymeter_account_id":"` + c.ID, `"name":"Acme"`},
		} {
			for _, field := range fields {
				require.Contains(t, strings.ReplaceAll(w.stripeGet(path), `": "`, `":"`), field)
			}
		}
	})
	t.Run("409 for the same tier", func(t *testing.T) {
		w.checkout(c, "pro").wantProblem(http.StatusConflict, "already_subscribed")
	})
	t.Run("another tier is a change of plan, not a second subscription", func(t *testing.T) {
		w.record(event{"id": "on-pro", "accountId": c.ID, "category": "rag", "credits": 5000}).want(http.StatusOK)
		var change session
		w.checkout(c, "scale").want(http.StatusOK, &change)
		require.True(t, strings.HasPrefix(change.URL, w.stripe.URL+"/p/session/"), change.URL)
		require.Regexp(t, `^bps_`, change.SessionID)
		require.Equal(t, "pro", w.subscription(c).Tier, "not before it is confirmed")
		require.True(t, strings.HasPrefix(w.click(change.URL+"/confirm"), "https://yourapp.com/billing/success"))
		after := w.subscription(c)
		require.Equal(t, "scale", after.Tier)
		require.Equal(t, credits{5000, 1000000, 995000}, after.Credits, "more at once, the used stays used")
		require.Len(t, w.subscriptionsAtStripe(*sub.StripeCustomerID), 1)
	})
	t.Run("a downgrade takes nothing away in this period", func(t *testing.T) {
		var change session
		w.checkout(c, "starter").want(http.StatusOK, &change)
		require.True(t, strings.HasPrefix(w.click(change.URL+"/confirm"), "https://yourapp.com/billing/success"))
		require.Equal(t, "scale", w.subscription(c).Tier)
		require.Equal(t, credits{5000, 1000000, 995000}, w.subscription(c).Credits)
	})
	t.Run("a tier by hand is 409 meanwhile", func(t *testing.T) {
		w.call("PUT", "/v1/accounts/"+c.ID+"/tier", `{"tier":"free"}`, bearer(theOperatorToken)).
			wantProblem(http.StatusConflict, "tier_managed_by_stripe")
	})
	t.Run("cancelled, it is free again", func(t *testing.T) {
		require.NoError(t, w.sim.CancelSubscription(w.subscriptionsAtStripe(*sub.StripeCustomerID)[0], true))
		w.delivered()
		require.Equal(t, "scale", w.subscription(c).Tier, "until the period's end")
		require.NoError(t, w.sim.CancelSubscription(w.subscriptionsAtStripe(*sub.StripeCustomerID)[0], false))
		w.delivered()
		after := w.subscription(c)
		require.Equal(t, "free", after.Tier)
		require.Equal(t, credits{0, 2500, 2500}, after.Credits)
		require.Nil(t, after.TierExpiresAt)
		require.Equal(t, sub.StripeCustomerID, after.StripeCustomerID, "the customer stays")
	})
	t.Run("and may subscribe again, as the same customer", func(t *testing.T) {
		w.clock.Advance(time.Hour)
		w.subscribe(c, "pro")
		require.Equal(t, sub.StripeCustomerID, w.subscription(c).StripeCustomerID)
		require.Equal(t, credits{0, 200000, 200000}, w.subscription(c).Credits)
	})
}

// stripeGet reads an object at the simulator as Stripe's API gives it.
func (w *world) stripeGet(path string) string {
	w.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), "GET", w.stripe.URL+path, nil)
	require.NoError(w.t, err)
	req.Header.Set("Authorization", "Bearer "+stripeKey)
	res, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, res.StatusCode, string(body))
	return string(body)
}

// subscriptionsAtStripe returns the ids of the customer's subscriptions that are not over.
func (w *world) subscriptionsAtStripe(customerID string) (ids []string) {
	w.t.Helper()
	var list struct{ Data []struct{ ID, Status string } }
	path := "/v1/subscriptions?limit=100&status=all&customer=" + url.QueryEscape(customerID)
	require.NoError(w.t, json.Unmarshal([]byte(w.stripeGet(path)), &list))
	for _, s := range list.Data {
		if s.Status != "canceled" {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func TestCheckoutRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()

	t.Run("400", func(t *testing.T) {
		for _, bad := range []struct{ body, field string }{
			{`{"tier":"free","successUrl":"https://a.com","cancelUrl":"https://a.com"}`, "tier"},
			{`{"tier":"gold","successUrl":"https://a.com","cancelUrl":"https://a.com"}`, "tier"},
			{`{"successUrl":"https://a.com","cancelUrl":"https://a.com"}`, "tier"},
			{`{"tier":"pro","cancelUrl":"https://a.com"}`, "successUrl"},
			{`{"tier":"pro","successUrl":"https://a.com"}`, "cancelUrl"},
			{`{"tier":"pro","successUrl":"https://a.com","cancelUrl":null}`, "cancelUrl"},
		} {
			w.call("POST", "/v1/billing/checkout", bad.body, c.auth()).wantField(bad.field)
		}
		w.call("POST", "/v1/billing/checkout", nil, c.auth()).wantField("body")
		for _, bad := range []string{
			"/relative", "//a.com", "a.com", "http://a.com", "javascript:alert(1)", "ftp://a.com", "https://", "https:///path",
			"https://user@a.com", "https://user:password@a.com", "https://a.com\\@evil.com", "https://a.com/ x", "https://a.com/\n",
			"http://127.0.0.1.evil.com", "http://localhost.evil.com", "https://[::1", "https:a.com", "HTTPS//a.com",
		} {
			for _, field := range []string{"successUrl", "cancelUrl"} {
				body := checkout("pro")
				body[field] = bad
				w.call("POST", "/v1/billing/checkout", body, c.auth()).wantField(field)
			}
		}
	})
	t.Run("200 for loopback over http", func(t *testing.T) {
		for _, good := range []string{"http://localhost:3000/ok", "http://127.0.0.1/ok", "http://[::1]:8080", "https://a.com?x={CHECKOUT_SESSION_ID}#f"} {
			body := checkout("pro")
			body["successUrl"] = good
			w.call("POST", "/v1/billing/checkout", body, c.auth()).want(http.StatusOK)
		}
	})
	t.Run("only the newest of an account's sessions can be paid", func(t *testing.T) {
		var first, second session
		w.checkout(c, "starter").want(http.StatusOK, &first)
		w.checkout(c, "pro").want(http.StatusOK, &second)
		require.Error(t, w.sim.CompleteCheckout(first.SessionID))
		require.NoError(t, w.sim.CompleteCheckout(second.SessionID))
		w.delivered()
		require.Equal(t, "pro", w.subscription(c).Tier)
	})
}

func TestCheckoutIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	var first, again session
	w.checkout(c, "pro", idempotencyKey("k")).want(http.StatusOK, &first)
	w.checkout(c, "pro", idempotencyKey("k")).want(http.StatusOK, &again)
	require.Equal(t, first, again)
	w.checkout(c, "scale", idempotencyKey("k")).wantProblem(http.StatusUnprocessableEntity, "idempotency_key_reused")

	t.Run("an answer that was lost before it was kept is found again", func(t *testing.T) {
		_, err := w.pool.Exec(context.Background(), `DELETE FROM idempotency_keys`)
		require.NoError(t, err)
		w.checkout(c, "pro", idempotencyKey("k")).want(http.StatusOK, &again)
		require.Equal(t, first, again)
		require.NoError(t, w.sim.CompleteCheckout(again.SessionID), "it is still open")
	})
	t.Run("one that is running is 409", func(t *testing.T) {
		d := w.newCustomer()
		w.checkout(d, "pro", idempotencyKey("running")).want(http.StatusOK)
		_, err := w.pool.Exec(context.Background(),
			`UPDATE idempotency_keys SET answer = NULL, busy_until = $1 WHERE scope = $2`, w.clock.Now().Add(time.Minute), d.ID)
		require.NoError(t, err)
		w.checkout(d, "pro", idempotencyKey("running")).wantProblem(http.StatusConflict, "idempotency_in_progress")
		w.clock.Advance(time.Minute)
		w.checkout(d, "pro", idempotencyKey("running")).want(http.StatusOK)
	})
}

// However many checkouts are made at once, an account ends up with one subscription and one customer.
func TestParallelCheckouts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	statuses := w.race(16, func() (response, error) {
		return w.tryURL(w.http.URL, "POST", "/v1/billing/checkout", checkout("pro"), c.auth())
	})
	require.GreaterOrEqual(t, statuses[http.StatusOK], 1)
	require.Equal(t, 16, statuses[http.StatusOK]+statuses[http.StatusConflict])
	customerID := *w.subscription(c).StripeCustomerID
	var sessions struct{ Data []struct{ ID, Status string } }
	require.NoError(t, json.Unmarshal([]byte(w.stripeGet("/v1/checkout/sessions?limit=100&customer="+customerID)), &sessions))
	open := 0
	for _, s := range sessions.Data {
		if w.sim.CompleteCheckout(s.ID) == nil {
			open++
		}
	}
	require.Equal(t, 1, open)
	require.Len(t, w.subscriptionsAtStripe(customerID), 1)
	var customers struct{ Data []any }
	require.NoError(t, json.Unmarshal([]byte(w.stripeGet("/v1/customers?limit=100")), &customers))
	require.Len(t, customers.Data, 1)
}

func TestAllowedOrigins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe, withConfig(func(cfg *app.Config) {
		cfg.AllowedOrigins = []string{"https://yourapp.com", "http://localhost:3000"}
	}))
	c := w.newCustomer()
	w.checkout(c, "pro").want(http.StatusOK)
	for _, bad := range []string{"https://yourapp.com.evil.com/", "https://evil.com/", "https://yourapp.com:8443/", "http://localhost:3001/"} {
		body := checkout("pro")
		body["successUrl"] = bad
		w.call("POST", "/v1/billing/checkout", body, c.auth()).wantField("successUrl")
		w.call("POST", "/v1/billing/portal", map[string]any{"returnUrl": bad}, c.auth()).wantField("returnUrl")
	}
}

func TestPortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe, withConfig(func(cfg *app.Config) { cfg.PortalReturnURL = "https://yourapp.com/account" }))
	c := w.newCustomer()
	w.call("POST", "/v1/billing/portal", nil, c.auth()).wantProblem(http.StatusConflict, "no_billing_account")
	w.subscribe(c, "pro")

	var p map[string]any
	w.call("POST", "/v1/billing/portal", nil, c.auth()).want(http.StatusOK, &p)
	require.Len(t, p, 1)
	require.True(t, strings.HasPrefix(p["url"].(string), w.stripe.URL+"/p/session/"))
	w.call("POST", "/v1/billing/portal", `{"returnUrl":"https://yourapp.com/elsewhere"}`, c.auth()).want(http.StatusOK)
	w.call("POST", "/v1/billing/portal", `{"returnUrl":"nowhere"}`, c.auth()).wantField("returnUrl")
	for range 2 {
		w.call("POST", "/v1/billing/portal", nil, c.auth(), idempotencyKey("p")).want(http.StatusOK)
	}
}

func TestBillingNotConfigured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	for _, r := range []response{
		w.checkout(c, "pro"),
		w.call("POST", "/v1/billing/portal", nil, c.auth()),
		w.call("POST", "/webhooks/stripe", `{"id":"evt_1","type":"invoice.paid"}`, header{"Stripe-Signature", "t=1,v1=00"}),
	} {
		r.wantProblem(http.StatusServiceUnavailable, "billing_not_configured")
		require.NotEmpty(t, r.header.Get("Retry-After"))
	}
	w.newKey(c, nil)
	require.Equal(t, "free", w.subscription(c).Tier)
}

func TestStripeAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	w.stripe.Close()
	r := w.checkout(c, "scale")
	r.wantProblem(http.StatusServiceUnavailable, "billing_unavailable")
	require.NotEmpty(t, r.header.Get("Retry-After"))
	w.call("POST", "/v1/billing/portal", nil, c.auth()).wantProblem(http.StatusServiceUnavailable, "billing_unavailable")
	require.Equal(t, "pro", w.subscription(c).Tier)
	w.newKey(c, nil)
	w.record(event{"id": "e", "accountId": c.ID, "category": "rag", "credits": 1}).want(http.StatusOK)
	t.Run("an event waits until Stripe is back", func(t *testing.T) {
		w.webhook(webhookSecret, hint("evt_away", "customer.subscription.updated", *w.subscription(c).StripeCustomerID)).
			want(http.StatusOK)
		testkit.Eventually(t, "a failure", func() bool {
			return w.count("stripe_events WHERE id = 'evt_away' AND last_error LIKE 'billing_unavailable%'") == 1
		})
		require.Equal(t, 1, w.count("stripe_events WHERE id = 'evt_away' AND handled_at IS NULL"))
	})
	require.NotContains(t, w.log.String(), stripeKey)
}

func hint(id, kind, customerID string) string {
	return fmt.Sprintf(`{"id":%q,"object":"event","type":%q,"livemode":false,"data":{"object":{"id":"x","customer":%q}}}`,
		id, kind, customerID)
}

// told posts an event about a customer and waits until it is worked off.
func (w *world) told(id, kind, customerID string) {
	w.t.Helper()
	w.webhook(webhookSecret, hint(id, kind, customerID)).want(http.StatusOK)
	w.workedOff()
}

// webhook posts an event with a signature of the secret.
func (w *world) webhook(secret, body string) response {
	w.t.Helper()
	return w.call("POST", "/webhooks/stripe", body, header{"Stripe-Signature", sign(secret, body, w.clock.Now())})
}

func sign(secret, body string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

func TestWebhookSignature(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	body := hint("evt_1", "some.other.type", "cus_1")

	t.Run("either secret", func(t *testing.T) {
		w.webhook(webhookSecret, body).want(http.StatusOK)
		w.webhook(olderSecret, body).want(http.StatusOK)
	})
	t.Run("a header with several signatures", func(t *testing.T) {
		signature := sign(webhookSecret, body, w.clock.Now())
		w.call("POST", "/webhooks/stripe", body, header{"Stripe-Signature", signature + ",v1=" + strings.Repeat("0", 64) + ",v0=x"}).
			want(http.StatusOK)
	})
	t.Run("400", func(t *testing.T) {
		now := w.clock.Now()
		for _, signature := range []string{
			sign("whsec_wrong", body, now), sign(webhookSecret, body+" ", now), sign(webhookSecret, body, now.Add(-6*time.Minute)),
			sign(webhookSecret, body, now.Add(6*time.Minute)), "nonsense", "t=x,v1=00", fmt.Sprintf("t=%d", now.Unix()), "v1=00",
		} {
			w.call("POST", "/webhooks/stripe", body, header{"Stripe-Signature", signature}).
				wantProblem(http.StatusBadRequest, "invalid_signature")
		}
		w.call("POST", "/webhooks/stripe", body).wantField("Stripe-Signature")
		w.webhook(webhookSecret, `{"id":"evt_1"}`).wantField("type")
		w.webhook(webhookSecret, `nonsense`).wantField("body")
	})
	t.Run("an event of the other mode", func(t *testing.T) {
		w.webhook(webhookSecret, `{"id":"evt_1","type":"invoice.paid","livemode":true}`).wantField("livemode")
	})
	t.Run("bytes are judged as they were sent", func(t *testing.T) {
		spaced := "{ \"type\" : \"x\",\n\"id\":\"evt_1\", \"livemode\": false}\n"
		w.webhook(webhookSecret, spaced).want(http.StatusOK)
	})
}

func TestWebhookIsAHint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	customerID := *w.subscription(c).StripeCustomerID
	granted := func() int { return w.count("credit_grants WHERE account_id = $1", c.ID) }
	before := granted()

	t.Run("what it claims does not matter", func(t *testing.T) {
		for i, body := range []string{
			hint("evt_claim1", "customer.subscription.deleted", customerID),
			`{"id":"evt_claim2","type":"customer.subscription.updated","api_version":"2026-08-26.dahlia","livemode":false,
			  "data":{"object":{"id":"sub_x","status":"canceled","customer":{"id":"` + customerID + `"},"items":{"data":[]}}}}`,
			`{"id":"evt_claim3","type":"invoice.paid","livemode":false,"data":{"object":{"customer":"` + customerID + `"}}}`,
		} {
			w.webhook(webhookSecret, body).want(http.StatusOK)
			w.workedOff()
			require.Equal(t, "pro", w.subscription(c).Tier)
			require.Equal(t, 1, w.count("stripe_events WHERE id = $1", fmt.Sprintf("evt_claim%d", i+1)))
		}
		require.Equal(t, before, granted())
	})
	t.Run("each is handled once", func(t *testing.T) {
		body := hint("evt_twice", "customer.subscription.updated", customerID)
		require.Equal(t, map[int]int{200: 16}, w.race(16, func() (response, error) {
			return w.tryURL(w.http.URL, "POST", "/webhooks/stripe", body,
				header{"Stripe-Signature", sign(webhookSecret, body, w.clock.Now())})
		}))
		w.workedOff()
		require.Equal(t, 1, w.count("stripe_events WHERE id = 'evt_twice'"))
		require.Equal(t, before, granted())
	})
	t.Run("a customer that is none of ours is none of our business", func(t *testing.T) {
		w.webhook(webhookSecret, hint("evt_foreign", "customer.subscription.updated", "cus_nobody")).want(http.StatusOK)
	})
}

// Whatever the order in which the events of a life come, doubled too, it ends as Stripe has it.
func TestWebhooksInAnyOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	w.sim.SetWebhook("", webhookSecret) // nothing arrives but what the test delivers
	for seed := range uint64(8) {
		c := w.newCustomer()
		seen := len(w.sim.Events())
		var s session
		w.checkout(c, "starter").want(http.StatusOK, &s)
		require.NoError(t, w.sim.CompleteCheckout(s.SessionID))
		var change session
		w.checkout(c, "scale").want(http.StatusOK, &change)
		w.click(change.URL + "/confirm")
		want := "scale"
		if seed%2 == 1 {
			require.NoError(t, w.sim.CancelSubscription(w.subscriptionsAtStripe(*w.account(c).StripeCustomerID)[0], false))
			want = "free"
		}
		events := w.sim.Events()[seen:]
		deliveries := slices.Concat(events, events)
		r := rand.New(rand.NewPCG(seed, 0))
		r.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
		for _, e := range deliveries {
			w.webhook(webhookSecret, string(e.Payload)).want(http.StatusOK)
		}
		w.workedOff()
		require.Equal(t, want, w.subscription(c).Tier, "seed %d", seed)
		var granted int64
		require.NoError(t, w.pool.QueryRow(context.Background(),
			`SELECT coalesce(sum(amount), 0) FROM credit_grants WHERE account_id = $1`, c.ID).Scan(&granted))
		if want == "scale" {
			require.Equal(t, int64(2500+1000000), granted, "seed %d", seed)
		}
	}
}

func (w *world) account(c customer) account {
	w.t.Helper()
	var a account
	w.call("GET", "/v1/accounts/"+c.ID, nil, bearer(theOperatorToken)).want(http.StatusOK, &a)
	return a
}

// A process that dies between making the customer and noting it leaves a customer that is still the account's.
func TestLostCustomerIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	var s session
	w.checkout(c, "pro").want(http.StatusOK, &s)
	_, err := w.pool.Exec(context.Background(), `UPDATE billing_accounts SET customer_id = NULL WHERE account_id = $1`, c.ID)
	require.NoError(t, err)
	w.click(s.URL + "/complete")
	require.Equal(t, "pro", w.subscription(c).Tier)
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	w.record(event{"id": "a", "accountId": c.ID, "category": "rag", "credits": 250000}).want(http.StatusOK)
	w.clock.Set(time.Date(2026, 4, 21, 10, 30, 1, 0, time.UTC))
	require.Equal(t, credits{0, 20000, 20000}, w.subscription(c).Credits, "an advance, until the renewal is paid")
	w.sim.Advance()
	w.delivered()
	require.Equal(t, credits{0, 20000, 20000}, w.subscription(c).Credits, "the invoice is a draft")
	w.clock.Advance(time.Hour)
	w.sim.Advance()
	w.delivered()
	s := w.subscription(c)
	require.Equal(t, credits{0, 200000, 200000}, s.Credits)
	require.Equal(t, "2026-05-21T10:30:00Z", s.TierExpiresAt.Format(time.RFC3339))
	require.Equal(t, 2, w.count("credit_grants WHERE account_id = $1 AND amount = 200000", c.ID), "one a month")
	require.Equal(t, 1, w.count("overages WHERE account_id = $1 AND credits = 50000 AND unit_micros = 800", c.ID))
}

func TestWebhookBodyLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	w.webhook(webhookSecret, string(bytes.Repeat([]byte(" "), 1<<20+1))).
		wantProblem(http.StatusRequestEntityTooLarge, "payload_too_large")
}

// rewrite makes the simulator's answers about subscriptions say something else.
func (w *world) rewrite(old, replacement string) { w.rewriteOf("/v1/subscriptions", old, replacement) }

// rewriteOf is rewrite, of what is at a path.
func (w *world) rewriteOf(path, old, replacement string) {
	handler := w.sim.Handler()
	w.stripeAnswers.Store(http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet || req.URL.Path != path {
			handler.ServeHTTP(res, req)
			return
		}
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, req)
		var compact bytes.Buffer
		_ = json.Compact(&compact, recorder.Body.Bytes())
		res.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(res, strings.ReplaceAll(compact.String(), old, replacement))
	}))
}

// What the account may do in each state of a subscription that Stripe knows.
func TestSubscriptionStates(t *testing.T) {
	t.Parallel()
	for status, tier := range map[string]string{
		"active": "pro", "trialing": "pro", "past_due": "pro", "unpaid": "free", "paused": "free", "incomplete": "free",
		"incomplete_expired": "free", "canceled": "free",
	} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, withStripe)
			c := w.newCustomer()
			w.subscribe(c, "pro")
			customerID := *w.subscription(c).StripeCustomerID
			w.record(event{"id": "used", "accountId": c.ID, "category": "rag", "credits": 50000}).want(http.StatusOK)

			w.rewrite(`"status":"active"`, `"status":"`+status+`"`)
			w.told("evt_state", "customer.subscription.updated", customerID)
			s := w.subscription(c)
			require.Equal(t, tier, s.Tier)
			require.Equal(t, tier == "pro", s.TierExpiresAt != nil)
			switch status {
			case "active", "trialing":
				w.checkout(c, "pro").wantProblem(http.StatusConflict, "already_subscribed")
				w.checkout(c, "scale").want(http.StatusOK)
			case "past_due", "unpaid", "paused", "incomplete":
				w.checkout(c, "pro").wantProblem(http.StatusConflict, "subscription_needs_payment")
			default: // it is over: a new one may be sold
				w.checkout(c, "pro").want(http.StatusOK)
			}

			w.rewrite("", "")
			w.told("evt_back", "customer.subscription.updated", customerID)
			s = w.subscription(c)
			require.Equal(t, "pro", s.Tier)
			require.Equal(t, int64(150000), s.Credits.Remaining, "a month that is entered again was used before")
		})
	}
}

func TestPriceThatIsNotOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	customerID := *w.subscription(c).StripeCustomerID
	w.rewrite("keymeter_pro_monthly", "somebody_elses")
	w.told("evt_price", "customer.subscription.updated", customerID)
	require.Equal(t, "free", w.subscription(c).Tier)
	w.rewrite(`"lookup_key":"keymeter_pro_monthly","metadata":{}`, `"lookup_key":null,"metadata":{"keymeter_tier":"pro"}`)
	w.told("evt_metadata", "customer.subscription.updated", customerID)
	require.Equal(t, "pro", w.subscription(c).Tier, "the lookup key has moved on to a newer price")
}
