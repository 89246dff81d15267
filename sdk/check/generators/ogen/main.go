// Program calls a server with the client that ogen makes of the contract.
package main

import (
	"context"
	"log"
	"os"

	api "github.com/keymeter/keymeter/sdk/check/generated/ogen"
)

func main() {
	ctx := context.Background()
	client, err := api.NewClient(os.Getenv("KEYMETER_URL"), credentials{})
	must(err == nil, "client", err)

	listed, err := client.ListKeys(ctx, api.ListKeysParams{Limit: api.NewOptInt32(1)})
	list, ok := listed.(*api.KeyListHeaders)
	must(ok && len(list.Response.Data) == 1, "list", err)

	created, err := client.CreateKey(ctx, api.NewOptCreateKeyRequest(api.CreateKeyRequest{
		Name:      api.NewOptString("ogen"),
		RateLimit: api.NewOptRateLimit(api.RateLimit{Requests: 5, WindowSeconds: 60}),
	}), api.CreateKeyParams{IdempotencyKey: api.NewOptString("ogen")})
	createdKey, ok := created.(*api.CreatedKeyHeaders)
	must(ok, "create", err)
	key := createdKey.Response
	must(key.ExpiresAt.IsNull(), "create", err)

	verified, err := client.VerifyKey(ctx, &api.VerifyKeyRequest{
		Key: key.Key, Cost: api.NewOptCost(api.Cost{Category: api.CategoryRag, Quantity: api.NewOptInt64(1)}),
	})
	verdict, ok := verified.(*api.VerifyKeyResultHeaders)
	must(ok, "verify", err)
	spent := verdict.Response
	must(spent.Valid && spent.KeyId.Value == key.ID && spent.Credits.Value == 2, "verify", err)

	missing, err := client.GetKey(ctx, api.GetKeyParams{KeyId: "key_none"})
	problem, ok := missing.(*api.KeyNotFoundHeaders)
	must(ok && problem.Response.Code == api.ErrorCodeKeyNotFound, "get", err)
}

type credentials struct{}

func (credentials) CustomerKey(context.Context, api.OperationName) (api.CustomerKey, error) {
	return api.CustomerKey{Token: os.Getenv("KEYMETER_API_KEY")}, nil
}

func (credentials) ServiceToken(context.Context, api.OperationName) (api.ServiceToken, error) {
	return api.ServiceToken{Token: os.Getenv("KEYMETER_SERVICE_TOKEN")}, nil
}

func (credentials) OperatorToken(context.Context, api.OperationName) (api.OperatorToken, error) {
	return api.OperatorToken{Token: os.Getenv("KEYMETER_OPERATOR_TOKEN")}, nil
}

func must(ok bool, what string, err error) {
	if !ok {
		log.Fatalf("%s: not as it should be (%v)", what, err)
	}
}
