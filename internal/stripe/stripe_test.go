package stripe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/plans"
)

const secretKey = "sk_test_aVerySecretKey0123456789"

var now = time.Date(2026, 3, 21, 10, 30, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

func catalogue(t *testing.T) *plans.Catalogue {
	t.Helper()
	c, err := plans.Load("")
	require.NoError(t, err)
	return c
}

// exchange is a request as it left the adapter, and its answer.
type exchange struct {
	method, path string
	header       http.Header
	form         url.Values
	status       int
	answer       string
}

func (e exchange) String() string { return e.method + " " + e.path }

// recorder is the way to Stripe. It notes what goes by.
type recorder struct {
	next http.RoundTripper

	mu        sync.Mutex
	exchanges []exchange
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	e := exchange{method: req.Method, path: req.URL.Path, header: req.Header.Clone(), form: req.URL.Query()}
	if req.Method != http.MethodGet {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		if e.form, err = url.ParseQuery(string(body)); err != nil {
			return nil, err
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	res, err := r.next.RoundTrip(req)
	if err == nil {
		var body []byte
		body, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(body))
		e.status, e.answer = res.StatusCode, string(body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exchanges = append(r.exchanges, e)
	return res, err
}

// take returns what went by since it was last called.
func (r *recorder) take() []exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.exchanges
	r.exchanges = nil
	return taken
}

// roundTrip answers without a network.
type roundTrip func(req *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// answers gives each request the status and body, and advises against another try.
func answers(status int, body string) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		w.Header().Set("Request-Id", "req_from_stripe")
		w.Header().Set("Stripe-Should-Retry", "false")
		w.WriteHeader(status)
		_, _ = w.WriteString(body)
		res := w.Result()
		res.Request = req
		return res, nil
	}
}

// newClient returns an adapter on the transport, and what it sends.
func newClient(t *testing.T, transport http.RoundTripper) (*Client, *recorder) {
	t.Helper()
	r := &recorder{next: transport}
	return New(Config{
		SecretKey: secretKey, WebhookSecrets: []string{"whsec_1"}, APIURL: "http://stripe.test",
		Catalogue: catalogue(t), Now: func() time.Time { return now }, Transport: r,
	}), r
}

// call is a call of each of the adapter's methods, with every parameter that it may send. key is the caller's.
type call struct {
	name string
	do   func(ctx context.Context, c *Client, key string) error
	// sends are the requests that it makes of a server which has everything.
	sends []string
}

func calls(t *testing.T) []call {
	t.Helper()
	pro := catalogue(t).Plan(plans.Pro)
	return []call{
		{"CreateCustomer", func(ctx context.Context, c *Client, key string) error {
			_, err := c.CreateCustomer(ctx, billing.Contact{AccountID: "acct_" + key, Name: "Acme", Email: ptr("billing@acme.test")})
			return err
		}, []string{"POST /v1/customers", "POST /v1/customers/{id}"}},
		{"CreateCustomer without email", func(ctx context.Context, c *Client, key string) error {
			_, err := c.CreateCustomer(ctx, billing.Contact{AccountID: "acct_" + key, Name: "Acme"})
			return err
		}, []string{"POST /v1/customers", "POST /v1/customers/{id}"}},
		{"Customer", func(ctx context.Context, c *Client, _ string) error {
			_, _, err := c.Customer(ctx, "cus_1")
			return err
		}, []string{"GET /v1/customers/{id}"}},
		{"CreateCheckout", func(ctx context.Context, c *Client, key string) error {
			_, err := c.CreateCheckout(ctx, billing.Checkout{
				AccountID: "acct_1", CustomerID: "cus_1", Plan: pro, Key: key,
				SuccessURL: "https://app.test/ok?s={CHECKOUT_SESSION_ID}", CancelURL: "https://app.test/no",
			})
			return err
		}, []string{"GET /v1/prices", "POST /v1/checkout/sessions"}},
		{"ExpireCheckouts", func(ctx context.Context, c *Client, key string) error {
			return c.ExpireCheckouts(ctx, "cus_1", key)
		}, []string{"GET /v1/checkout/sessions", "POST /v1/checkout/sessions/{id}/expire"}},
		{"CreatePortal", func(ctx context.Context, c *Client, key string) error {
			_, err := c.CreatePortal(ctx, "cus_1", "https://app.test/account", key)
			return err
		}, []string{"GET /v1/billing_portal/configurations", "POST /v1/billing_portal/sessions"}},
		{"CreatePortal without a return URL", func(ctx context.Context, c *Client, key string) error {
			_, err := c.CreatePortal(ctx, "cus_1", "", key)
			return err
		}, []string{"GET /v1/billing_portal/configurations", "POST /v1/billing_portal/sessions"}},
		{"CreatePlanChange", func(ctx context.Context, c *Client, key string) error {
			_, err := c.CreatePlanChange(ctx, billing.PlanChange{
				CustomerID: "cus_1", Subscription: billing.Subscription{ID: "sub_1", ItemID: "si_1"}, Plan: pro, Key: key,
				SuccessURL: "https://app.test/ok", CancelURL: "https://app.test/no",
			})
			return err
		}, []string{"GET /v1/prices", "GET /v1/billing_portal/configurations", "POST /v1/billing_portal/sessions"}},
		{"CreatePlanChange while one is scheduled", func(ctx context.Context, c *Client, key string) error {
			_, err := c.CreatePlanChange(ctx, billing.PlanChange{
				CustomerID: "cus_1", Subscription: billing.Subscription{ID: "sub_1", ItemID: "si_1", Scheduled: true}, Plan: pro, Key: key,
				SuccessURL: "https://app.test/ok", CancelURL: "https://app.test/no",
			})
			return err
		}, []string{"GET /v1/billing_portal/configurations", "POST /v1/billing_portal/sessions"}},
		{"Subscriptions", func(ctx context.Context, c *Client, _ string) error {
			_, err := c.Subscriptions(ctx, "cus_1")
			return err
		}, []string{"GET /v1/subscriptions", "GET /v1/invoices", "GET /v1/invoices"}},
		{"CancelSubscription", func(ctx context.Context, c *Client, key string) error {
			return c.CancelSubscription(ctx, billing.Cancellation{SubscriptionID: "sub_1", Key: key})
		}, []string{"GET /v1/subscriptions/{id}", "DELETE /v1/subscriptions/{id}"}},
		{"RenewalDraft", func(ctx context.Context, c *Client, _ string) error {
			_, _, err := c.RenewalDraft(ctx, "cus_1", "sub_1", now)
			return err
		}, []string{"GET /v1/invoices"}},
		{"AddOverage", func(ctx context.Context, c *Client, key string) error {
			_, err := c.AddOverage(ctx, overage(key, "in_1"))
			return err
		}, []string{"GET /v1/invoiceitems", "POST /v1/invoiceitems"}},
		{"AddOverage to what comes next", func(ctx context.Context, c *Client, key string) error {
			_, err := c.AddOverage(ctx, overage(key, ""))
			return err
		}, []string{"GET /v1/invoiceitems", "POST /v1/invoiceitems"}},
		{"BillAlone", func(ctx context.Context, c *Client, key string) error {
			_, err := c.BillAlone(ctx, ownInvoice(key))
			return err
		}, []string{
			"GET /v1/invoices", "GET /v1/invoiceitems", "GET /v1/subscriptions/{id}", "POST /v1/invoices",
			"GET /v1/invoiceitems", "POST /v1/invoiceitems",
			"POST /v1/invoices/{id}/finalize",
		}},
		{"CreateTopUp", func(ctx context.Context, c *Client, key string) error {
			_, err := c.CreateTopUp(ctx, billing.TopUp{
				AccountID: "acct_1", CustomerID: "cus_1", Name: "50,000 credits", Credits: 50_000, AmountCents: 5000, Key: key,
				SuccessURL: "https://app.test/ok", CancelURL: "https://app.test/no",
			})
			return err
		}, []string{"POST /v1/checkout/sessions"}},
		{"TopUpPayment", func(ctx context.Context, c *Client, _ string) error {
			_, _, err := c.TopUpPayment(ctx, "cs_3")
			return err
		}, []string{"GET /v1/checkout/sessions/{id}"}},
		{"TopUpOfPaymentIntent", func(ctx context.Context, c *Client, _ string) error {
			_, _, err := c.TopUpOfPaymentIntent(ctx, "pi_1")
			return err
		}, []string{"GET /v1/checkout/sessions"}},
		{"TopUps", func(ctx context.Context, c *Client, _ string) error {
			_, err := c.TopUps(ctx, "cus_1")
			return err
		}, []string{"GET /v1/checkout/sessions"}},
		{"Events", func(ctx context.Context, c *Client, _ string) error {
			return c.Events(ctx, now, func(billing.Event) error { return nil })
		}, []string{"GET /v1/events"}},
		{"ReadEvent of a payment intent", func(ctx context.Context, c *Client, _ string) error {
			return readSigned(ctx, c, event("charge.dispute.created", `{"id":"dp_1","payment_intent":"pi_1","charge":"ch_1"}`))
		}, []string{"GET /v1/payment_intents/{id}"}},
		{"ReadEvent of a charge", func(ctx context.Context, c *Client, _ string) error {
			return readSigned(ctx, c, event("charge.dispute.created", `{"id":"dp_1","payment_intent":null,"charge":"ch_1"}`))
		}, []string{"GET /v1/charges/{id}"}},
	}
}

func readSigned(ctx context.Context, c *Client, body string) error {
	_, _, err := c.ReadEvent(ctx, []byte(body), signed(body, "whsec_1", now))
	return err
}

func overage(key, invoiceID string) billing.OverageItem {
	return billing.OverageItem{
		AccountID: "acct_1", CustomerID: "cus_1", SubscriptionID: "sub_1", InvoiceID: invoiceID, AmountCents: 1234,
		Credits: 15_425, UnitPrice: "0.0008", Description: "15,425 credits at $0.0008",
		PeriodStart: now.AddDate(0, -1, 0), PeriodEnd: now, Key: key,
	}
}

func ownInvoice(key string) billing.OwnInvoice {
	return billing.OwnInvoice{
		AccountID: "acct_1", CustomerID: "cus_1", SubscriptionID: "sub_1", Description: "Last period",
		Items: []billing.OverageItem{overage(key+":1", "")}, Key: key,
	}
}

var idPattern = regexp.MustCompile(`/(cus|cs|sub|in|ii|pi|ch|bpc|we|price|keymeter)_[A-Za-z0-9_]+`)

// pattern puts {id} in the place of ids.
func pattern(e exchange) string { return e.method + " " + idPattern.ReplaceAllString(e.path, "/{id}") }

func patterns(exchanges []exchange) []string {
	all := make([]string, len(exchanges))
	for i, e := range exchanges {
		all[i] = pattern(e)
	}
	return all
}

// plenty answers as a Stripe that has one of everything.
func plenty() roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		body := map[string]string{
			"/v1/customers":                     `{"id":"cus_1"}`,
			"/v1/customers/cus_1":               `{"id":"cus_1","metadata":{"keymeter_account_id":"acct_1"}}`,
			"/v1/prices":                        `{"object":"list","data":[{"id":"price_pro"}]}`,
			"/v1/checkout/sessions/cs_1/expire": `{"id":"cs_1"}`,
			"/v1/checkout/sessions/cs_2/expire": `{"id":"cs_2"}`,
			"/v1/billing_portal/configurations": `{"object":"list","data":[{"id":"bpc_0","metadata":{}},
				{"id":"bpc_1","metadata":{"keymeter_portal":"home"}},{"id":"bpc_2","metadata":{"keymeter_portal":"plan_change"}}]}`,
			"/v1/billing_portal/sessions": `{"id":"bps_1","url":"https://billing.stripe.test"}`,
			"/v1/subscriptions":           `{"object":"list","data":[` + subscriptionJSON + `]}`,
			"/v1/subscriptions/sub_1":     subscriptionJSON,
			"/v1/checkout/sessions/cs_3":  topUpJSON,
			"/v1/invoices":                `{"object":"list","data":[]}`,
			"/v1/invoices/in_1":           `{"id":"in_1","status":"open"}`,
			"/v1/invoices/in_1/finalize":  `{"id":"in_1","status":"open"}`,
			"/v1/invoiceitems":            `{"object":"list","data":[{"id":"ii_0","metadata":{"keymeter_key":"other"}}]}`,
			"/v1/events":                  `{"object":"list","data":[` + event("invoice.paid", `{"customer":"cus_1"}`) + `]}`,
			"/v1/payment_intents/pi_1":    `{"id":"pi_1","customer":"cus_1"}`,
			"/v1/charges/ch_1":            `{"id":"ch_1","customer":"cus_1"}`,
		}[req.URL.Path]
		switch req.Method + " " + req.URL.Path {
		case "POST /v1/checkout/sessions":
			body = `{"id":"cs_1","url":"https://checkout.stripe.test"}`
		case "GET /v1/checkout/sessions":
			body = `{"object":"list","data":[{"id":"cs_1","metadata":{"keymeter_request":"mine"}},
				{"id":"cs_2","metadata":{"keymeter_request":"another"}},` + topUpJSON + `]}`
		case "POST /v1/invoices":
			body = `{"id":"in_1","status":"draft"}`
		case "POST /v1/invoiceitems":
			body = `{"id":"ii_1"}`
		}
		if body == "" {
			return nil, fmt.Errorf("unexpected request: %s %s", req.Method, req.URL)
		}
		return answers(http.StatusOK, body)(req)
	}
}

const subscriptionJSON = `{
	"id": "sub_1", "status": "active", "created": 1767225600, "billing_cycle_anchor": 1767225601,
	"current_period_start": 1767225602, "current_period_end": 1769904000, "cancel_at_period_end": true,
	"trial_end": null, "ended_at": null, "pause_collection": null,
	"items": {"data": [{"id": "si_1", "price": {"id": "price_1", "lookup_key": "keymeter_pro_monthly"}}]}}`

const topUpJSON = `{
	"id": "cs_3", "mode": "payment", "payment_status": "paid", "amount_total": 5000, "customer": "cus_1", "created": 1767225600,
	"metadata": {"keymeter_account_id": "acct_1", "keymeter_request": "k", "keymeter_credits": "50000"},
	"payment_intent": {"id": "pi_1", "latest_charge": {"id": "ch_1", "amount_refunded": 0, "disputed": false}}}`
