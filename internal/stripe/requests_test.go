package stripe

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/plans"
)

// Each request is authorized, pinned to the API version that the code was written for, and says nothing of this server.
func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	for _, c := range calls(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, sent := newClient(t, plenty())
			for range 2 { // telemetry is of the request before
				require.NoError(t, c.do(t.Context(), client, "mine"))
			}
			for _, e := range sent.take() {
				require.Equal(t, "2023-10-16", e.header.Get("Stripe-Version"), e)
				require.Equal(t, "Bearer "+secretKey, e.header.Get("Authorization"), e)
				require.Empty(t, e.header.Values("X-Stripe-Client-Telemetry"), e)
				require.Empty(t, e.header.Values("Stripe-Account"), e)
			}
		})
	}
}

// A request that is made again carries the key of the first time, so that it has no second effect; another request
// carries another.
func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	owners := map[string]string{} // of each idempotency key
	for _, c := range calls(t) {
		client, sent := newClient(t, plenty())
		keysOf := func(key string) (keys []string) {
			require.NoError(t, c.do(t.Context(), client, key))
			exchanges := sent.take()
			require.Subset(t, c.sends, patterns(exchanges), c.name)
			for _, e := range exchanges {
				switch pattern(e) {
				case "POST /v1/customers/{id}": // what it sets is the same each time
					continue
				case "POST /v1/checkout/sessions/{id}/expire": // of the session, whoever wants it
					id := strings.Split(e.path, "/")[4]
					require.Equal(t, []string{"keymeter:expire:" + id}, e.header.Values("Idempotency-Key"))
					continue
				}
				if e.method != http.MethodGet {
					require.Len(t, e.header.Values("Idempotency-Key"), 1, "%s of %s", e, c.name)
					keys = append(keys, e.header.Get("Idempotency-Key"))
					require.LessOrEqual(t, len(keys[0]), 255, "what Stripe takes")
				} else {
					require.Empty(t, e.header.Get("Idempotency-Key"), e)
				}
			}
			return keys
		}
		first := keysOf("mine")
		require.Equal(t, first, keysOf("mine"), c.name)
		for i, key := range keysOf("yours") {
			require.NotEqual(t, first[i], key, c.name)
		}
		for _, key := range first {
			owner, _, _ := strings.Cut(c.name, " ") // with and without an option are the same request
			if before, ok := owners[key]; ok {
				require.Equal(t, before, owner, "two operations share the key %s", key)
			}
			owners[key] = owner
		}
	}
	require.Len(t, owners, 12)
}

// The parameters under an idempotency key of the customer are the same whatever its name is now: Stripe refuses a key
// that comes with others.
func TestCreateCustomerIsConstant(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, plenty())
	var forms []url.Values
	for _, contact := range []billing.Contact{
		{AccountID: "acct_1", Name: "Acme", Email: ptr("a@acme.test")}, {AccountID: "acct_1", Name: "Renamed"},
	} {
		id, err := client.CreateCustomer(t.Context(), contact)
		require.NoError(t, err)
		require.Equal(t, "cus_1", id)
		exchanges := sent.take()
		forms = append(forms, exchanges[0].form)
		require.Equal(t, contact.Name, exchanges[1].form.Get("name"))
		require.Equal(t, contact.Email != nil, exchanges[1].form.Has("email"))
	}
	require.Equal(t, url.Values{"metadata[keymeter_account_id]": {"acct_1"}}, forms[0])
	require.Equal(t, forms[0], forms[1])
}

func TestCheckoutParameters(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, plenty())
	session, err := client.CreateCheckout(t.Context(), billing.Checkout{
		AccountID: "acct_1", CustomerID: "cus_1", Plan: catalogue(t).Plan(plans.Pro), Key: "k",
		SuccessURL: "https://app.test/ok?s={CHECKOUT_SESSION_ID}", CancelURL: "https://app.test/no",
	})
	require.NoError(t, err)
	require.Equal(t, billing.Session{ID: "cs_1", URL: "https://checkout.stripe.test"}, session)
	exchanges := sent.take()
	require.Equal(t, url.Values{
		"active": {"true"}, "limit": {"1"}, "lookup_keys[0]": {"keymeter_pro_monthly"},
	}, exchanges[0].form)
	require.Equal(t, url.Values{
		"mode": {"subscription"}, "customer": {"cus_1"}, "client_reference_id": {"acct_1"},
		"line_items[0][price]": {"price_pro"}, "line_items[0][quantity]": {"1"},
		"metadata[keymeter_account_id]": {"acct_1"}, "metadata[keymeter_request]": {"k"},
		"subscription_data[metadata][keymeter_account_id]": {"acct_1"},
		"success_url": {"https://app.test/ok?s={CHECKOUT_SESSION_ID}"}, "cancel_url": {"https://app.test/no"},
	}, exchanges[1].form)
}

func TestExpireCheckouts(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, plenty())
	require.NoError(t, client.ExpireCheckouts(t.Context(), "cus_1", "mine"))
	exchanges := sent.take()
	require.Equal(t, url.Values{"customer": {"cus_1"}, "status": {"open"}, "limit": {"100"}}, exchanges[0].form)
	require.Equal(t, []string{"GET /v1/checkout/sessions", "POST /v1/checkout/sessions/cs_2/expire"},
		[]string{exchanges[0].String(), exchanges[1].String()}, "the request's own session stays open, and a top-up's")
	require.Len(t, exchanges, 2)
}

func TestPlanChangeParameters(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, plenty())
	session, err := client.CreatePlanChange(t.Context(), billing.PlanChange{
		CustomerID: "cus_1", Subscription: billing.Subscription{ID: "sub_1", ItemID: "si_1"},
		Plan: catalogue(t).Plan(plans.Pro), Key: "k", SuccessURL: "https://app.test/ok", CancelURL: "https://app.test/no",
	})
	require.NoError(t, err)
	require.Equal(t, billing.Session{ID: "bps_1", URL: "https://billing.stripe.test"}, session)
	require.Equal(t, url.Values{
		"configuration": {"bpc_2"}, "customer": {"cus_1"}, "return_url": {"https://app.test/no"}, "flow_data[type]": {"subscription_update_confirm"},
		"flow_data[after_completion][type]":                          {"redirect"},
		"flow_data[after_completion][redirect][return_url]":          {"https://app.test/ok"},
		"flow_data[subscription_update_confirm][subscription]":       {"sub_1"},
		"flow_data[subscription_update_confirm][items][0][id]":       {"si_1"},
		"flow_data[subscription_update_confirm][items][0][price]":    {"price_pro"},
		"flow_data[subscription_update_confirm][items][0][quantity]": {"1"},
	}, sent.take()[2].form)
}

func TestPortalParameters(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, plenty())
	_, err := client.CreatePortal(t.Context(), "cus_1", "https://app.test/account", "k")
	require.NoError(t, err)
	require.Equal(t, url.Values{
		"configuration": {"bpc_1"}, "customer": {"cus_1"}, "return_url": {"https://app.test/account"},
	}, sent.take()[1].form)

	// Before the first sync the account's own configuration is in force.
	client, sent = newClient(t, instead("GET /v1/billing_portal/configurations", `{"object":"list","data":[{"id":"bpc_0"}]}`))
	_, err = client.CreatePortal(t.Context(), "cus_1", "", "k")
	require.NoError(t, err)
	require.Equal(t, url.Values{"customer": {"cus_1"}}, sent.take()[1].form)
}

// A plan whose price does not exist at Stripe is the operator's mistake; it is said as such, and nothing is sold.
func TestPriceThatIsMissing(t *testing.T) {
	t.Parallel()
	client, sent := newClient(t, answers(http.StatusOK, `{"object":"list","data":[]}`))
	plan := catalogue(t).Plan(plans.Pro)
	_, err := client.CreateCheckout(t.Context(), billing.Checkout{Plan: plan})
	require.ErrorIs(t, err, billing.ErrNotConfigured)
	require.ErrorContains(t, err, "keymeter_pro_monthly")
	_, err = client.CreatePlanChange(t.Context(), billing.PlanChange{Plan: plan})
	require.ErrorIs(t, err, billing.ErrNotConfigured)
	require.Equal(t, []string{"GET /v1/prices", "GET /v1/prices"}, patterns(sent.take()))
}

func TestCustomer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, answer, want string
		status             int
		exists             bool
	}{
		{"ours", `{"id":"cus_1","metadata":{"keymeter_account_id":"acct_1","x":"y"}}`, "acct_1", http.StatusOK, true},
		{"somebody else's", `{"id":"cus_1","metadata":{}}`, "", http.StatusOK, true},
		{"deleted", `{"id":"cus_1","deleted":true}`, "", http.StatusOK, false},
		{"missing", `{"error":{"type":"invalid_request_error","code":"resource_missing"}}`, "", http.StatusNotFound, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, _ := newClient(t, answers(c.status, c.answer))
			got, exists, err := client.Customer(t.Context(), "cus_1")
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.Equal(t, c.exists, exists)
		})
	}
}

// Each request of a call ends with its caller, and has a deadline also where the caller has none.
func TestContextIsPassedOn(t *testing.T) {
	t.Parallel()
	type mark struct{}
	for _, c := range calls(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, sent := newClient(t, roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.Context().Value(mark{}) == nil {
					return answers(http.StatusBadRequest, "a context of its own")(req)
				}
				if _, ok := req.Context().Deadline(); !ok {
					return answers(http.StatusBadRequest, "no deadline")(req)
				}
				return plenty().RoundTrip(req)
			}))
			require.NoError(t, c.do(context.WithValue(context.WithoutCancel(t.Context()), mark{}, true), client, "k"))
			require.NotEmpty(t, sent.take())
		})
	}
}
