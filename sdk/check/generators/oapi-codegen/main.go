// Program calls a server with the client that oapi-codegen makes of the contract.
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	api "github.com/keymeter/keymeter/sdk/check/generated/oapi-codegen"
)

func main() {
	ctx := context.Background()
	customer, service := as("KEYMETER_API_KEY"), as("KEYMETER_SERVICE_TOKEN")

	one := int32(1)
	listed, err := customer.ListKeysWithResponse(ctx, &api.ListKeysParams{Limit: &one})
	must(err == nil && listed.JSON200 != nil && len(listed.JSON200.Data) == 1, "list", err)

	name := "oapi-codegen"
	created, err := customer.CreateKeyWithResponse(ctx, &api.CreateKeyParams{IdempotencyKey: &name}, api.CreateKeyJSONRequestBody{
		Name: &name, RateLimit: &api.RateLimit{Requests: 5, WindowSeconds: 60},
	})
	must(err == nil && created.JSON201 != nil, "create", err)

	query := int64(1)
	verified, err := service.VerifyKeyWithResponse(ctx, api.VerifyKeyJSONRequestBody{
		Key: created.JSON201.Key, Cost: &api.Cost{Category: api.CategoryRag, Quantity: &query},
	})
	must(err == nil && verified.JSON200 != nil && verified.JSON200.Valid && *verified.JSON200.KeyId == created.JSON201.Id &&
		*verified.JSON200.Credits == 2, "verify", err)

	missing, err := customer.GetKeyWithResponse(ctx, "key_none")
	must(err == nil && missing.ApplicationproblemJSON404 != nil && missing.ApplicationproblemJSON404.Code == api.ErrorCodeKeyNotFound, "get", err)
}

func as(credential string) *api.ClientWithResponses {
	authorize := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+os.Getenv(credential))
		return nil
	}
	client, err := api.NewClientWithResponses(os.Getenv("KEYMETER_URL"), api.WithRequestEditorFn(authorize))
	must(err == nil, "client", err)
	return client
}

func must(ok bool, what string, err error) {
	if !ok {
		log.Fatalf("%s: not as it should be (%v)", what, err)
	}
}
