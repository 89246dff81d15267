package stripesim_test

import (
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
)

// TestKnowsEveryParameter sends each parameter that the 2023-10-16 client or the
// published description has, alone. One that the client has is never called
// unknown, whether simulated or not; one that came later always is.
func TestKnowsEveryParameter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	for _, tt := range []struct {
		method, path string
		params       any
	}{
		{"POST", "/v1/customers", stripe.CustomerParams{}},
		{"GET", "/v1/customers", stripe.CustomerListParams{}},
		{"GET", "/v1/prices", stripe.PriceListParams{}},
		{"POST", "/v1/checkout/sessions", stripe.CheckoutSessionParams{}},
		{"GET", "/v1/checkout/sessions", stripe.CheckoutSessionListParams{}},
		{"POST", "/v1/billing_portal/sessions", stripe.BillingPortalSessionParams{}},
		{"GET", "/v1/subscriptions", stripe.SubscriptionListParams{}},
		{"POST", "/v1/subscriptions/" + sub.ID, stripe.SubscriptionParams{}},
		{"GET", "/v1/events", stripe.EventListParams{}},
	} {
		client, published := formNames(tt.params), publishedNames(t, tt.method, tt.path)
		for _, name := range published {
			a := b.send(t, tt.method, tt.path, name)
			called := a.error("code") == "parameter_unknown" && a.error("param") == name
			if called == slices.Contains(client, name) {
				t.Errorf("%s %s: %s: %v", tt.method, tt.path, name, a.error("message"))
			}
		}
	}
}

func (b *bundle) send(t *testing.T, method, path, name string) answer {
	t.Helper()
	form := url.Values{name: {""}}.Encode()
	if method == "GET" {
		return b.do(t, method, path+"?"+form, "")
	}
	return b.do(t, method, path, form)
}

// publishedNames are the top-level scalars and maps of the description; an object
// or list is asked for as a whole, which is refused for its value at most.
func publishedNames(t *testing.T, method, path string) []string {
	t.Helper()
	op := operation(method, path)
	var out []string
	for _, p := range op.Parameters {
		if p.Value.In == "query" {
			out = append(out, p.Value.Name)
		}
	}
	if op.RequestBody != nil && method != "GET" {
		for name := range op.RequestBody.Value.Content["application/x-www-form-urlencoded"].Schema.Value.Properties {
			out = append(out, name)
		}
	}
	require.NotEmpty(t, out)
	return out
}

func formNames(params any) []string {
	var out []string
	for _, f := range reflect.VisibleFields(reflect.TypeOf(params)) {
		name, _, _ := strings.Cut(f.Tag.Get("form"), ",")
		out = append(out, name)
	}
	return out
}
