package httpapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/keymeter/keymeter"
)

// contractOracle judges exchanges by openapi.yaml as it is written, not by what the server made of it.
type contractOracle struct {
	doc    func() (*openapi3.T, error)
	router func() (routers.Router, error)

	mu   sync.Mutex
	seen map[string]bool // "operationId status" of each exchange
}

var oracle = newOracle()

func newOracle() *contractOracle {
	o := &contractOracle{seen: map[string]bool{}}
	o.doc = sync.OnceValues(func() (*openapi3.T, error) {
		doc, err := openapi3.NewLoader().LoadFromData(keymeter.Contract)
		if err != nil {
			return nil, err
		}
		closeObjects(doc)
		return doc, doc.Validate(context.Background())
	})
	o.router = sync.OnceValues(func() (routers.Router, error) {
		doc, err := o.doc()
		if err != nil {
			return nil, err
		}
		return gorillamux.NewRouter(doc)
	})
	return o
}

// closeObjects forbids what the contract does not declare, so that a field that leaks is seen.
func closeObjects(doc *openapi3.T) {
	for _, schema := range doc.Components.Schemas {
		if s := schema.Value; s.Type.Is("object") && s.AdditionalProperties.Has == nil && s.AdditionalProperties.Schema == nil {
			s.AdditionalProperties.Has = new(bool)
		}
	}
}

// check judges an exchange. A request that was answered with success must have been on contract; an answer always must.
func (o *contractOracle) check(req *http.Request, sent []byte, res *http.Response, got []byte) error {
	router, err := o.router()
	if err != nil {
		return err
	}
	req = req.Clone(context.Background())
	req.Body = io.NopCloser(bytes.NewReader(sent))
	route, params, err := router.FindRoute(req)
	if err != nil { // none of the contract's paths: the answer is a 404 or 405
		if res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusMethodNotAllowed {
			return nil
		}
		return fmt.Errorf("%s %s answered %d: %w", req.Method, req.URL.Path, res.StatusCode, err)
	}
	o.mu.Lock()
	o.seen[fmt.Sprintf("%s %d", route.Operation.OperationID, res.StatusCode)] = true
	o.mu.Unlock()
	input := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			MultiError: true, IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
			SkipSettingDefaults: true,
		},
	}
	if res.StatusCode < 300 {
		if err := openapi3filter.ValidateRequest(req.Context(), input); err != nil {
			return fmt.Errorf("%s accepted a request that is off contract: %w", route.Operation.OperationID, err)
		}
	}
	err = openapi3filter.ValidateResponse(req.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: res.StatusCode, Header: res.Header,
		Body: io.NopCloser(bytes.NewReader(got)), Options: input.Options,
	})
	if err != nil {
		return fmt.Errorf("%s answered %d off contract: %w", route.Operation.OperationID, res.StatusCode, err)
	}
	return nil
}
