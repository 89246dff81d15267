package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keymeter/keymeter"
)

// Every operation says what it is for, shows what goes in and out, and lists what can go wrong.
func TestContractIsComplete(t *testing.T) {
	t.Parallel()
	doc, err := oracle.doc() // which validates the document and its examples
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(doc.OpenAPI, "3.1"))
	tags := map[string]bool{}
	for _, tag := range doc.Tags {
		require.NotEmpty(t, tag.Description)
		tags[tag.Name] = true
	}
	ids := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			at := method + " " + path
			require.NotEmpty(t, op.OperationID, at)
			require.False(t, ids[op.OperationID], at)
			ids[op.OperationID] = true
			require.Len(t, op.Tags, 1, at)
			require.True(t, tags[op.Tags[0]], at)
			require.NotEmpty(t, op.Summary, at)
			require.NotEmpty(t, op.Description, at)
			if op.RequestBody != nil {
				requireExamples(t, at, op.RequestBody.Value.Content)
			}
			for status, response := range op.Responses.Map() {
				if status != "204" {
					requireExamples(t, at+" "+status, response.Value.Content)
				}
				if status >= "400" {
					require.Contains(t, response.Value.Content, "application/problem+json", at+" "+status)
				}
			}
			if op.Security == nil || len(*op.Security) > 0 {
				for _, status := range []string{"400", "401", "403", "500", "503"} {
					require.NotNil(t, op.Responses.Value(status), at+" "+status)
				}
			}
		}
	}
}

// Every schema has a name, says what it is, and shows what it looks like; what SDKs make types of is not inline.
func TestSchemasAreNamed(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(keymeter.Contract)
	require.NoError(t, err)
	for name, schema := range doc.Components.Schemas {
		require.NotEmpty(t, schema.Value.Description, name)
		require.NotEmpty(t, schema.Value.Examples, name)
		for within, part := range parts(schema) {
			requireNamed(t, name+"."+within, part)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			for _, p := range op.Parameters {
				requireNamed(t, method+" "+path+" "+p.Value.Name, p.Value.Schema)
			}
			if op.RequestBody == nil {
				continue
			}
			schema := op.RequestBody.Value.Content["application/json"].Schema
			for _, body := range append(schema.Value.OneOf, schema) {
				open := body.Value.Type.Is("object") && body.Value.AdditionalProperties.Has == nil
				require.False(t, open, "%s %s takes fields that it does not know", method, path)
			}
		}
	}
}

// parts are the schemas that stand in a schema.
func parts(schema *openapi3.SchemaRef) openapi3.Schemas {
	found := openapi3.Schemas{}
	maps.Copy(found, schema.Value.Properties)
	for i, alternative := range schema.Value.OneOf {
		found[fmt.Sprint("oneOf", i)] = alternative
	}
	for name, part := range maps.Clone(found) {
		for i, alternative := range part.Value.OneOf {
			found[fmt.Sprint(name, ".oneOf", i)] = alternative
		}
		if part.Value.Items != nil {
			found[name+".items"] = part.Value.Items
		}
	}
	return found
}

func requireNamed(t *testing.T, at string, schema *openapi3.SchemaRef) {
	t.Helper()
	if schema.Ref != "" {
		return
	}
	require.False(t, schema.Value.Type.Includes("object"), "%s is an object without a name", at)
	require.Empty(t, schema.Value.Enum, "%s is an enum without a name", at)
	require.Empty(t, schema.Value.AllOf, "%s is made of others, which the oracle can't close", at)
}

func requireExamples(t *testing.T, at string, content openapi3.Content) {
	t.Helper()
	require.NotEmpty(t, content, at)
	for kind, media := range content {
		require.NotEmpty(t, media.Examples, at+" "+kind)
	}
}

// Whatever is sent, the answer is on contract and never our fault.
func TestNothingSentIsA5xx(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	tokens := map[string]string{"customerKey": c.key.Key, "serviceToken": theServiceToken, "operatorToken": theOperatorToken}
	ops := operations(t)
	leaf := rapid.OneOf(
		rapid.Just[any](nil), rapid.Just[any](true), rapid.Just[any](c.ID), rapid.Just[any](c.key.ID), rapid.Just[any]("pro"),
		rapid.Just[any]("2026-03-21T00:00:00Z"), rapid.Just[any]("https://a.com"), rapid.Just[any](json.Number("1e400")),
		rapid.Just[any](json.Number("9223372036854775807")), rapid.Just[any](json.Number("0.5")), rapid.Just[any](json.Number("-0")),
		rapid.Map(rapid.String(), func(s string) any { return s }), rapid.Map(rapid.Int64(), func(n int64) any { return n }),
	)
	field := rapid.SampledFrom([]string{
		"name", "expiresInDays", "id", "accountId", "keyId", "category", "credits", "provider", "quantity", "outputQuantity",
		"byok", "occurredAt", "tier", "successUrl", "cancelUrl", "returnUrl", "externalId", "email", "events", "", "\x00", "é",
	})
	object := rapid.MapOf(field, leaf)
	body := rapid.OneOf(
		rapid.Map(object, func(m map[string]any) any { return m }),
		rapid.Map(rapid.SliceOfN(object, 0, 3), func(events []map[string]any) any { return map[string]any{"events": events} }),
		leaf,
	)
	query := rapid.SampledFrom([]string{"", "?limit=5", "?limit=%00", "?cursor=%00", "?cursor=key_%F0%9F%98%80", "?limit=-1", "?%00=1", "?externalId=%ff"})
	id := rapid.SampledFrom([]string{"key_x", "%00", "%2F", "..", "%F0%9F%98%80", "a%20b", strings.Repeat("k", 300)})
	rapid.Check(t, func(rt *rapid.T) {
		op := rapid.SampledFrom(ops).Draw(rt, "operation")
		path := strings.NewReplacer("key_x", id.Draw(rt, "key"), "acct_x", id.Draw(rt, "account")).Replace(op.path)
		encoded, err := json.Marshal(body.Draw(rt, "body"))
		if err != nil {
			rt.Fatal(err)
		}
		r, err := w.tryURL(w.http.URL, op.method, path+query.Draw(rt, "query"), string(encoded), bearer(tokens[op.credential]))
		if err != nil {
			rt.Fatal(err)
		}
		if r.status >= 500 {
			rt.Fatalf("%s %s answered %d: %s", op.method, path, r.status, r.body)
		}
	})
}

// What Postgres can't hold is refused.
func TestMetadataHoldsNoNUL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	w.call("POST", "/v1/keys", `{"metadata":{"a":"\u0000"}}`, c.auth()).wantField("metadata.a")
	w.call("POST", "/v1/keys", `{"metadata":{"\u0000":"a"}}`, c.auth()).wantField("metadata.\x00")
	w.call("POST", "/v1/keys", `{"metadata":{"a":"\u0001\n\u007f"}}`, c.auth()).want(http.StatusCreated)
}
