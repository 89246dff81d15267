package stripe

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-mock/embedded"
	"github.com/stripe/stripe-mock/server"
	"github.com/stripe/stripe-mock/spec"
)

// mock is Stripe's own mock, and the description of Stripe's API that it works from. It knows the parameters of the API
// and refuses what it does not know, at the top level always and further down in some places. It prints a line for each
// request; only a test run that fails or is verbose shows them.
type mock struct {
	stub *server.StubServer
	spec *spec.Spec
}

var loadMock = sync.OnceValues(func() (mock, error) { // it takes seconds
	description, err := server.LoadSpec(embedded.OpenAPISpec, "")
	if err != nil {
		return mock{}, err
	}
	fixtures, err := server.LoadFixtures(embedded.OpenAPIFixtures, "")
	if err != nil {
		return mock{}, err
	}
	stub, err := server.NewStubServer(fixtures, description, false, false)
	return mock{stub, description}, err
})

func stripeMock(t *testing.T) mock {
	t.Helper()
	m, err := loadMock()
	require.NoError(t, err)
	return m
}

// transport is the way to the mock, without a network.
func (m mock) transport() http.RoundTripper {
	return handled(m.stub.HandleRequest)
}

// unknown returns the parameters of a request that the description of the API does not have, at any depth.
func (m mock) unknown(e exchange) (names []string) {
	operation := m.operation(e)
	if operation == nil {
		return []string{e.String()}
	}
	root := &spec.Schema{Properties: map[string]*spec.Schema{}}
	if e.method != http.MethodGet {
		root = operation.RequestBody.Content["application/x-www-form-urlencoded"].Schema
	}
	for _, parameter := range operation.Parameters {
		if parameter.In == "query" && e.method == http.MethodGet {
			root.Properties[parameter.Name] = parameter.Schema
		}
	}
	for name := range e.form {
		if !has(root, strings.FieldsFunc(name, func(r rune) bool { return r == '[' || r == ']' })) {
			names = append(names, name)
		}
	}
	return names
}

// operation returns the description of what a request asks for, nil if there is none.
func (m mock) operation(e exchange) *spec.Operation {
	for path, verbs := range m.spec.Paths {
		described, asked := strings.Split(string(path), "/"), strings.Split(strings.TrimPrefix(pattern(e), e.method+" "), "/")
		if slices.EqualFunc(described, asked, func(d, a string) bool { return d == a || a == "{id}" && strings.HasPrefix(d, "{") }) {
			return verbs[spec.HTTPVerb(strings.ToLower(e.method))]
		}
	}
	return nil
}

// has reports whether a schema has the parameter whose name is made of the segments.
func has(s *spec.Schema, segments []string) bool {
	if s == nil || len(segments) == 0 {
		return s != nil
	}
	if s.Items != nil && strings.Trim(segments[0], "0123456789") == "" {
		return has(s.Items, segments[1:])
	}
	if property, ok := s.Properties[segments[0]]; ok && has(property, segments[1:]) {
		return true
	}
	return s.AdditionalProperties != nil && has(s.AdditionalProperties, segments[1:]) ||
		slices.ContainsFunc(s.AnyOf, func(of *spec.Schema) bool { return has(of, segments) })
}

// Stripe's mock accepts each request that the adapter makes. Its answers are made up from the description of a newer
// API version, so that nothing is to be learned from them, except that such an answer is not misread.
func TestStripeMockAcceptsEachRequest(t *testing.T) {
	t.Parallel()
	m := stripeMock(t)
	for _, c := range calls(t) {
		client, sent := newClient(t, m.transport())
		err := c.do(t.Context(), client, "mine")
		exchanges := sent.take()
		for _, e := range exchanges {
			require.Equal(t, http.StatusOK, e.status, "%s of %s with %v: %s", e, c.name, e.form, e.answer)
			require.Empty(t, m.unknown(e), "%s of %s", e, c.name)
		}
		if c.name == "Subscriptions" { // its fixtures have no period anywhere
			require.ErrorContains(t, err, "has no period")
			continue
		}
		require.Equal(t, c.sends, patterns(exchanges), c.name)
		require.NoError(t, err, c.name)
	}
}

// The mock does refuse, and what it lets pass is found: otherwise the test above would mean nothing.
func TestStripeMockRefuses(t *testing.T) {
	t.Parallel()
	m := stripeMock(t)
	for _, c := range []struct {
		path, form string
		status     int
		unknown    []string
	}{
		{"/v1/customers", "name=Acme", http.StatusOK, nil},
		{"/v1/customers", "name=Acme&metadata[a]=b", http.StatusOK, nil},
		{"/v1/customers", "naem=Acme", http.StatusBadRequest, []string{"naem"}},
		{"/v1/customers", "metadata=text", http.StatusBadRequest, nil},
		{"/v1/checkout/sessions", "mode=subscripton", http.StatusBadRequest, nil}, //nolint:misspell // on purpose
		{"/v1/checkout/sessions", "subscription_data[metadata][a]=b", http.StatusOK, nil},
		{"/v1/checkout/sessions", "subscription_data[foo]=bar", http.StatusOK, []string{"subscription_data[foo]"}},
		{"/v1/checkout/sessions", "line_items[0][prise]=bar", http.StatusOK, []string{"line_items[0][prise]"}},
		{"/v1/billing_portal/sessions", "customer=cus_1&flow_data[foo]=bar", http.StatusBadRequest, []string{"flow_data[foo]"}},
		{"/v1/billing_portal/sessions", "customer=cus_1&flow_data[type]=bar", http.StatusBadRequest, nil},
		{"/v1/nothing", "", http.StatusNotFound, []string{"POST /v1/nothing"}},
	} {
		_, sent := newClient(t, m.transport())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://stripe.test"+c.path, strings.NewReader(c.form))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+secretKey)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := sent.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		e := sent.take()[0]
		require.Equal(t, c.status, e.status, "%s %s", c.path, c.form)
		require.Equal(t, c.unknown, m.unknown(e), "%s %s", c.path, c.form)
	}
}
