package stripe

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/billing"
)

var topUp = billing.Payment{
	SessionID: "cs_3", PaymentIntentID: "pi_1", AccountID: "acct_1", CustomerID: "cus_1", Credits: 50_000, AmountCents: 5000,
	Paid: true, Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
}

func TestCreateTopUp(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, plenty())
	session, err := client.CreateTopUp(t.Context(), billing.TopUp{
		AccountID: "acct_1", CustomerID: "cus_1", Name: "50,000 credits", Credits: 50_000, AmountCents: 5000, Key: "k",
		SuccessURL: "https://app.test/ok", CancelURL: "https://app.test/no",
	})
	require.NoError(t, err)
	require.Equal(t, billing.Session{ID: "cs_1", URL: "https://checkout.stripe.test"}, session)
	require.Equal(t, url.Values{
		"mode": {"payment"}, "customer": {"cus_1"}, "client_reference_id": {"acct_1"},
		"line_items[0][quantity]": {"1"}, "line_items[0][price_data][currency]": {"usd"},
		"line_items[0][price_data][unit_amount]":        {"5000"},
		"line_items[0][price_data][product_data][name]": {"50,000 credits"},
		"metadata[keymeter_account_id]":                 {"acct_1"}, "metadata[keymeter_request]": {"k"},
		"metadata[keymeter_credits]":                         {"50000"},
		"payment_intent_data[metadata][keymeter_account_id]": {"acct_1"},
		"payment_intent_data[metadata][keymeter_request]":    {"k"},
		"payment_intent_data[metadata][keymeter_credits]":    {"50000"},
		"success_url": {"https://app.test/ok"}, "cancel_url": {"https://app.test/no"},
	}, sent.take()[0].form)
}

func TestTopUpPayment(t *testing.T) {
	t.Parallel()
	with := func(change func(p *billing.Payment)) billing.Payment {
		p := topUp
		change(&p)
		return p
	}
	for name, c := range map[string]struct {
		old, new, disputes string
		want               billing.Payment // the zero one is none
	}{
		"paid":        {"", "", "", topUp},
		"not paid":    {`"paid"`, `"unpaid"`, "", with(func(p *billing.Payment) { p.Paid = false })},
		"in part":     {`"amount_refunded": 0`, `"amount_refunded": 1200`, "", with(func(p *billing.Payment) { p.RefundedCents = 1200 })},
		"dispute":     {`"disputed": false`, `"disputed": true`, "needs_response", with(func(p *billing.Payment) { p.Disputed = true })},
		"review":      {`"disputed": false`, `"disputed": true`, "under_review", with(func(p *billing.Payment) { p.Disputed = true })},
		"lost":        {`"disputed": false`, `"disputed": true`, "lost", with(func(p *billing.Payment) { p.Disputed = true })},
		"won":         {`"disputed": false`, `"disputed": true`, "won", topUp},
		"inquiry":     {`"disputed": false`, `"disputed": true`, "warning_needs_response", topUp},
		"no charge":   {`{"id": "ch_1", "amount_refunded": 0, "disputed": false}`, `null`, "", topUp},
		"no intent":   {`{"id": "pi_1", "latest_charge": {"id": "ch_1", "amount_refunded": 0, "disputed": false}}`, `null`, "", with(func(p *billing.Payment) { p.PaymentIntentID = "" })},
		"a plan":      {`"payment"`, `"subscription"`, "", billing.Payment{}},
		"not ours":    {`"keymeter_credits": "50000"`, `"x": "y"`, "", billing.Payment{}},
		"no customer": {`"cus_1"`, `null`, "", billing.Payment{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, topUpJSON, c.old)
			session := strings.Replace(topUpJSON, c.old, c.new, 1)
			client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
				switch req.URL.Path {
				case "/v1/checkout/sessions/cs_3":
					return answers(http.StatusOK, session)(req)
				case "/v1/checkout/sessions":
					return answers(http.StatusOK, `{"object":"list","data":[`+session+`]}`)(req)
				}
				return answers(http.StatusOK, `{"object":"list","data":[{"id":"dp_1","status":"`+c.disputes+`"}]}`)(req)
			}))
			got, ok, err := client.TopUpPayment(t.Context(), "cs_3")
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.Equal(t, c.want != billing.Payment{}, ok)
			exchanges := sent.take()
			require.Equal(t, url.Values{"expand[0]": {"payment_intent.latest_charge"}}, exchanges[0].form)
			if c.disputes != "" {
				require.Equal(t, url.Values{"payment_intent": {"pi_1"}, "limit": {"100"}}, exchanges[1].form)
			}

			got, ok, err = client.TopUpOfPaymentIntent(t.Context(), "pi_1")
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.Equal(t, c.want != billing.Payment{}, ok)
			require.Equal(t, url.Values{
				"payment_intent": {"pi_1"}, "limit": {"100"}, "expand[0]": {"data.payment_intent.latest_charge"},
			}, sent.take()[0].form)

			all, err := client.TopUps(t.Context(), "cus_1")
			require.NoError(t, err)
			require.Equal(t, url.Values{
				"customer": {"cus_1"}, "status": {"complete"}, "limit": {"100"}, "expand[0]": {"data.payment_intent.latest_charge"},
			}, sent.take()[0].form)
			if c.want.Paid {
				require.Equal(t, []billing.Payment{c.want}, all)
			} else {
				require.Empty(t, all)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		client, _ := newClient(t, answers(http.StatusNotFound, `{"error":{"type":"invalid_request_error","code":"resource_missing"}}`))
		_, ok, err := client.TopUpPayment(t.Context(), "cs_3")
		require.NoError(t, err)
		require.False(t, ok)
	})
}
