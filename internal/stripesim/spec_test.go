package stripesim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-mock/embedded"
)

// specPaths are the operations of Stripe's published description that the
// simulator has. The description of the other 400 is not loaded.
var specPaths = []string{
	"/v1/customers", "/v1/customers/{customer}", "/v1/prices", "/v1/prices/{price}", "/v1/products", "/v1/products/{id}",
	"/v1/billing_portal/configurations", "/v1/billing_portal/configurations/{configuration}",
	"/v1/checkout/sessions", "/v1/checkout/sessions/{session}", "/v1/checkout/sessions/{session}/expire",
	"/v1/billing_portal/sessions", "/v1/subscriptions", "/v1/subscriptions/{subscription_exposed_id}",
	"/v1/subscription_schedules", "/v1/subscription_schedules/{schedule}", "/v1/subscription_schedules/{schedule}/release",
	"/v1/invoices", "/v1/invoices/{invoice}", "/v1/invoices/{invoice}/lines", "/v1/invoices/{invoice}/finalize",
	"/v1/invoices/{invoice}/pay", "/v1/invoices/{invoice}/void", "/v1/invoices/{invoice}/mark_uncollectible",
	"/v1/invoiceitems", "/v1/invoiceitems/{invoiceitem}", "/v1/charges", "/v1/charges/{charge}", "/v1/refunds", "/v1/refunds/{refund}", "/v1/disputes", "/v1/disputes/{dispute}",
	"/v1/subscriptions/{subscription}/resume",
	"/v1/payment_intents", "/v1/payment_intents/{intent}", "/v1/events", "/v1/events/{id}",
	"/v1/webhook_endpoints", "/v1/webhook_endpoints/{webhook_endpoint}",
}

// olderField is a field of 2023-10-16 that the published description, which is
// of a later version, no longer has. Everything not listed here must be in the
// description, and everything the description requires must be there.
type olderField struct {
	schema string
	field  string
	kind   string // its type; a trailing ? allows null
	reason string
}

const (
	toItems  = "2025-03-31.basil moved the period to the items"
	toParent = "2025-03-31.basil moved it to parent and pricing"
	toTaxes  = "2025-03-31.basil gathered taxes in total_taxes and taxes"
	toPaid   = "2025-03-31.basil replaced it by payments and status"
	toList   = "later versions keep only the list of discounts"
	dropped  = "dropped by a later version"
)

var olderFields = []olderField{
	{"subscription", "current_period_start", "integer", toItems},
	{"subscription", "current_period_end", "integer", toItems},
	{"subscription", "discount", "object?", toList},

	{"invoice", "subscription", "string?", toParent},
	{"invoice", "subscription_details", "object?", toParent},
	{"invoice", "paid", "boolean", toPaid},
	{"invoice", "paid_out_of_band", "boolean", toPaid},
	{"invoice", "charge", "string?", toPaid},
	{"invoice", "payment_intent", "string?", toPaid},
	{"invoice", "application_fee_amount", "integer?", toPaid},
	{"invoice", "transfer_data", "object?", toPaid},
	{"invoice", "tax", "integer?", toTaxes},
	{"invoice", "total_tax_amounts", "array", toTaxes},
	{"invoice", "discount", "object?", toList},
	{"invoice", "quote", "string?", dropped},

	{"line_item", "price", "object?", toParent},
	{"line_item", "proration", "boolean", toParent},
	{"line_item", "proration_details", "object?", toParent},
	{"line_item", "subscription_item", "string", toParent},
	{"line_item", "type", "string", toParent},
	{"line_item", "amount_excluding_tax", "integer?", toTaxes},
	{"line_item", "unit_amount_excluding_tax", "string?", toTaxes},
	{"line_item", "tax_amounts", "array", toTaxes},
	{"line_item", "tax_rates", "array", toTaxes},

	{"line_item", "invoice_item", "string?", toParent},

	{"invoiceitem", "price", "object?", toParent},
	{"invoiceitem", "subscription", "string?", toParent},
	{"invoiceitem", "subscription_item", "string", toParent},
	{"invoiceitem", "unit_amount", "integer?", toParent},
	{"invoiceitem", "unit_amount_decimal", "string?", toParent},

	{"charge", "invoice", "string?", toPaid},
	{"payment_intent", "invoice", "string?", toPaid},

	{"product", "features", "array", "renamed to marketing_features in 2024-04-10"},
	{"product", "type", "string", dropped},
	{"recurring", "aggregate_usage", "string?", "2025-03-31.basil removed usage records"},
	{"recurring", "trial_period_days", "integer?", dropped},
	{"checkout.session", "shipping_details", "object?", "2025-03-31.basil moved it to collected_information"},
}

// olderValues are enumeration values of 2023-10-16 that were renamed.
var olderValues = []struct{ schema, field, value, reason string }{
	{"checkout.session", "ui_mode", "hosted", "later versions say hosted_page"},
}

// spec is Stripe's description with the differences above added, closed: a field
// it does not have is an error.
var spec = sync.OnceValue(func() *openapi3.T {
	doc := loadSpec()
	for name, schema := range doc.Components.Schemas {
		if name != "notification_event_data" { // describes an event's object as any object
			closeSchema(schema)
		}
	}
	for _, f := range olderFields {
		schema := doc.Components.Schemas[f.schema].Value
		if schema.Properties[f.field] != nil {
			continue // TestKnownDifferencesAreReal reports it
		}
		kind, nullable := strings.CutSuffix(f.kind, "?")
		schema.Properties[f.field] = &openapi3.SchemaRef{Value: &openapi3.Schema{Type: &openapi3.Types{kind}, Nullable: nullable}}
		if kind == "array" {
			schema.Properties[f.field].Value.Items = &openapi3.SchemaRef{Value: &openapi3.Schema{}}
		}
	}
	for _, v := range olderValues {
		field := doc.Components.Schemas[v.schema].Value.Properties[v.field].Value
		field.Enum = append(slices.Clone(field.Enum), v.value)
	}
	return doc
})

func loadSpec() *openapi3.T {
	var raw map[string]json.RawMessage
	must(json.Unmarshal(embedded.OpenAPISpec, &raw))
	var paths map[string]json.RawMessage
	must(json.Unmarshal(raw["paths"], &paths))
	for path := range paths {
		if !slices.Contains(specPaths, path) {
			delete(paths, path)
		}
	}
	raw["paths"] = must2(json.Marshal(paths))
	return must2(openapi3.NewLoader().LoadFromData(must2(json.Marshal(raw))))
}

// closeSchema forbids fields that are not described, also in objects described in
// place. References are closed where they are defined.
func closeSchema(ref *openapi3.SchemaRef) {
	if ref == nil || ref.Value == nil {
		return
	}
	v := ref.Value
	if len(v.Properties) > 0 && v.AdditionalProperties.Has == nil && v.AdditionalProperties.Schema == nil {
		closed := false
		v.AdditionalProperties.Has = &closed
	}
	inner := slices.Concat([]*openapi3.SchemaRef{v.Items}, v.AnyOf)
	for _, p := range v.Properties {
		inner = append(inner, p)
	}
	for _, p := range inner {
		if p != nil && p.Ref == "" {
			closeSchema(p)
		}
	}
}

// validating checks every API answer that passes through it.
type validating struct{ t *testing.T }

func (v validating) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || !strings.HasPrefix(r.URL.Path, "/v1/") {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if err := checkAnswer(r.Method, r.URL.Path, resp.StatusCode, body); err != nil {
		v.t.Errorf("%s %s answered %d with what Stripe would not: %v\n%s", r.Method, r.URL.Path, resp.StatusCode, err, body)
	}
	return resp, nil
}

func checkAnswer(method, path string, status int, body []byte) error {
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	if status != http.StatusOK {
		return visit(spec().Components.Schemas["error"].Value, answer)
	}
	op := operation(method, path)
	if op == nil {
		return fmt.Errorf("no such operation")
	}
	if err := visit(op.Responses.Status(http.StatusOK).Value.Content["application/json"].Schema.Value, answer); err != nil {
		return err
	}
	return checkEvents(answer)
}

// checkEvents looks into the events of an answer, whose objects Stripe describes
// only by their kind.
func checkEvents(answer map[string]any) error {
	events, _ := answer["data"].([]any)
	if answer["object"] == "event" {
		events = []any{answer}
	}
	for _, ev := range events {
		if ev := ev.(map[string]any); ev["object"] == "event" {
			snapshot := ev["data"].(map[string]any)["object"].(map[string]any)
			schema := spec().Components.Schemas[snapshot["object"].(string)]
			if schema == nil {
				return fmt.Errorf("event %v has an unknown object", ev["type"])
			}
			if err := visit(schema.Value, snapshot); err != nil {
				return fmt.Errorf("%v: %w", ev["type"], err)
			}
		}
	}
	return nil
}

func visit(schema *openapi3.Schema, value any) error {
	return schema.VisitJSON(value, openapi3.MultiErrors())
}

func operation(method, path string) *openapi3.Operation {
	have := strings.Split(path, "/")
	for pattern, item := range spec().Paths.Map() {
		want := strings.Split(pattern, "/")
		if slices.EqualFunc(want, have, func(w, h string) bool { return w == h || strings.HasPrefix(w, "{") }) {
			return item.GetOperation(method)
		}
	}
	return nil
}

// TestKnownDifferencesAreReal keeps the list above short and true: each entry is
// absent from the description and present in the 2023-10-16 client's types.
func TestKnownDifferencesAreReal(t *testing.T) {
	t.Parallel()
	published := loadSpec()
	types := map[string]any{
		"subscription": stripe.Subscription{}, "invoice": stripe.Invoice{}, "line_item": stripe.InvoiceLineItem{},
		"invoiceitem": stripe.InvoiceItem{}, "charge": stripe.Charge{}, "payment_intent": stripe.PaymentIntent{},
		"product": stripe.Product{}, "recurring": stripe.PriceRecurring{}, "checkout.session": stripe.CheckoutSession{},
	}
	for _, f := range olderFields {
		require.NotEmpty(t, f.reason)
		require.NotContains(t, published.Components.Schemas[f.schema].Value.Properties, f.field, "%s is described; drop it from the list", f.schema)
		require.Contains(t, jsonNames(types[f.schema]), f.field, "%s of 2023-10-16 has no such field", f.schema)
	}
	for _, v := range olderValues {
		require.NotContains(t, published.Components.Schemas[v.schema].Value.Properties[v.field].Value.Enum, v.value, v.reason)
	}
}

func jsonNames(v any) []string {
	var out []string
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, name)
	}
	return out
}

// TestValidationSeesMistakes shows that the check is not a rubber stamp.
func TestValidationSeesMistakes(t *testing.T) {
	t.Parallel()
	good := `{"id":"price_1","object":"price","active":true,"billing_scheme":"per_unit","created":1,"currency":"usd",
		"livemode":false,"metadata":{},"product":"prod_1","type":"recurring"}`
	check := func(body string) error { return checkAnswer("GET", "/v1/prices/price_1", 200, []byte(body)) }
	require.NoError(t, check(good))
	require.Error(t, check(strings.Replace(good, `"created":1,`, ``, 1)), "a required field is missing")
	require.Error(t, check(strings.Replace(good, `"created":1`, `"created":"1"`, 1)), "a type is wrong")
	require.Error(t, check(strings.Replace(good, `"per_unit"`, `"per_seat"`, 1)), "a value is not in the enumeration")
	require.Error(t, check(strings.Replace(good, `"created":1`, `"created":1,"cretaed":1`, 1)), "a field is unknown")
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must2[T any](v T, err error) T {
	must(err)
	return v
}
