package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/keymeter/keymeter"
	"github.com/keymeter/keymeter/internal/keys"
)

// operation is what the contract says of a route.
type operation struct {
	id string
	// credential is the kind of credential that it takes, "" for none.
	credential credential
	// scope is what a customer's key must be allowed, "" for nothing in particular.
	scope      keys.Scope
	parameters []parameter
	// body is nil if it takes none.
	body         *jsonschema.Schema
	bodyRequired bool
	// plain reads bodies of a common kind and judges them as body does, at a fraction of the cost; nil if there is none.
	plain func(r *http.Request) (read *http.Request, ok bool)
}

type parameter struct {
	name, in string
	required bool
	schema   *jsonschema.Schema
}

// contract is the operations by method and Echo route.
type contract map[string]*operation

// loadContract reads openapi.yaml, and writes it as JSON too.
func loadContract() (doc *openapi3.T, contractJSON []byte, err error) {
	if doc, err = openapi3.NewLoader().LoadFromData(keymeter.Contract); err != nil {
		return nil, nil, err
	}
	contractJSON, err = doc.MarshalJSON()
	return doc, contractJSON, err
}

// readContract reads what the contract says of each operation and compiles its schemas, once.
func readContract(doc *openapi3.T, contractJSON []byte) (contract, error) {
	compiler, err := newSchemaCompiler(contractJSON)
	if err != nil {
		return nil, err
	}
	found := contract{}
	for path, item := range doc.Paths.Map() {
		route := strings.NewReplacer("{", ":", "}", "").Replace(path)
		for method, op := range item.Operations() {
			at := []string{"paths", path, strings.ToLower(method)}
			if found[method+" "+route], err = readOperation(compiler, doc, op, at); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func readOperation(
	compiler *jsonschema.Compiler, doc *openapi3.T, op *openapi3.Operation, at []string,
) (*operation, error) {
	o := &operation{id: op.OperationID, credential: credentialOf(doc, op), scope: scopes[op.Tags[0]]}
	for i, p := range op.Parameters {
		where := slices.Concat(at, []string{"parameters", strconv.Itoa(i), "schema"})
		if p.Ref != "" {
			where = append(strings.Split(strings.TrimPrefix(p.Ref, "#/"), "/"), "schema")
		}
		schema, err := compiler.Compile(pointer(where...))
		if err != nil {
			return nil, err
		}
		o.parameters = append(o.parameters, parameter{
			name: p.Value.Name, in: p.Value.In, required: p.Value.Required, schema: schema,
		})
	}
	if op.RequestBody == nil {
		return o, nil
	}
	if op.RequestBody.Value.Content[echo.MIMEApplicationJSON] == nil {
		return nil, errors.New(op.OperationID + " takes a body that is not JSON")
	}
	if o.id == "recordUsage" {
		o.plain = withPlainEvents
	}
	var err error
	o.bodyRequired = op.RequestBody.Value.Required
	o.body, err = compiler.Compile(
		pointer(slices.Concat(at, []string{"requestBody", "content", echo.MIMEApplicationJSON, "schema"})...))
	return o, err
}

// scopes are what the operations of a tag ask of a customer's key.
var scopes = map[string]keys.Scope{"Keys": keys.ManageKeys, "Usage": keys.ReadUsage, "Billing": keys.ManageBilling}

func credentialOf(doc *openapi3.T, op *openapi3.Operation) credential {
	security := doc.Security
	if op.Security != nil {
		security = *op.Security
	}
	for _, requirement := range security {
		for scheme := range requirement {
			return credential(scheme)
		}
	}
	return ""
}

const operationKey = "operation"

// find puts the request's operation into its context. A request without one is none of the contract's: an unknown
// route, or the documentation.
func (o contract) find(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if op, ok := o[c.Request().Method+" "+c.Path()]; ok {
			c.Set(operationKey, op)
			c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
		}
		return next(c)
	}
}

func operationOf(c echo.Context) *operation {
	op, _ := c.Get(operationKey).(*operation)
	return op
}

// requestTimeout is how long a request may take. The longest wait is for Stripe.
const requestTimeout = 30 * time.Second

func deadline(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		ctx, cancel := context.WithTimeout(c.Request().Context(), requestTimeout)
		defer cancel()
		c.SetRequest(c.Request().WithContext(ctx))
		return next(c)
	}
}
