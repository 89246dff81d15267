package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
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
	seen map[answer]bool
}

// answer is a kind of answer that the contract describes: an operation's, with a status and, if it is a problem, a code.
type answer struct {
	operation string
	status    int
	code      string
}

var oracle = newOracle()

func newOracle() *contractOracle {
	o := &contractOracle{seen: map[answer]bool{}}
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
	input := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			MultiError: true, IncludeResponseStatus: true, AuthenticationFunc: requireCredential, SkipSettingDefaults: true,
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
	return o.note(route.Operation, res.StatusCode, got)
}

// note notes the answer, whose code must be one that the contract shows for the status.
func (o *contractOracle) note(op *openapi3.Operation, status int, got []byte) error {
	found := answer{operation: op.OperationID, status: status}
	if status >= http.StatusBadRequest {
		var p struct {
			Code   string
			Status int
		}
		if err := json.Unmarshal(got, &p); err != nil {
			return err
		}
		found.code = p.Code
		if p.Status != status || !slices.Contains(answers(op), found) {
			return fmt.Errorf("%s answered %d off contract: status %d, code %s", op.OperationID, status, p.Status, p.Code)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen[found] = true
	return nil
}

// codes are what a response's code may be: each has an example of its name.
func codes(response *openapi3.ResponseRef) []string {
	media := response.Value.Content["application/problem+json"]
	if media == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(media.Examples))
}

// requireCredential is asked about requests that were answered with success.
func requireCredential(_ context.Context, input *openapi3filter.AuthenticationInput) error {
	token, ok := strings.CutPrefix(strings.ToLower(input.RequestValidationInput.Request.Header.Get("Authorization")), "bearer ")
	if isKey := strings.Contains(token, "_sk_"); !ok || isKey != (input.SecuritySchemeName == "customerKey") {
		return input.NewError(errors.New("the request has no such credential"))
	}
	return nil
}

// unseen tells of the answers that the contract describes and no test has provoked.
func (o *contractOracle) unseen() error {
	doc, err := o.doc()
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var missing []string
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			for _, a := range answers(op) {
				if !o.seen[a] {
					missing = append(missing, strings.TrimSpace(fmt.Sprintln(a.operation, a.status, a.code)))
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("no test saw these answers of the contract: %s", strings.Join(missing, ", "))
}

// answers are what the contract describes of an operation.
func answers(op *openapi3.Operation) (all []answer) {
	for text, response := range op.Responses.Map() {
		status, _ := strconv.Atoi(text) // 0, which is never seen, for one like 4XX
		if status < http.StatusBadRequest {
			all = append(all, answer{operation: op.OperationID, status: status})
		}
		for _, code := range codes(response) {
			all = append(all, answer{operation: op.OperationID, status: status, code: code})
		}
	}
	return all
}
