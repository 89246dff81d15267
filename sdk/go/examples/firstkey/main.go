// Firstkey is a customer's sign-up: the operator makes an account and its first key, and the customer makes the second.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	keymeter "github.com/keymeter/keymeter/sdk/go"
)

func main() {
	ctx := context.Background()
	operator, err := keymeter.New(os.Getenv("KEYMETER_URL"), os.Getenv("KEYMETER_OPERATOR_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	account, err := operator.CreateAccount(ctx, keymeter.CreateAccountRequest{Name: "Acme"})
	if err != nil {
		log.Fatal(err)
	}
	first, err := operator.CreateAccountKey(ctx, account.ID, keymeter.CreateKeyRequest{Name: keymeter.Ptr("First key")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("created", account.Name, "on", account.Tier, "with", first.Name)

	customer, err := keymeter.New(os.Getenv("KEYMETER_URL"), first.Key)
	if err != nil {
		log.Fatal(err)
	}
	_, err = customer.CreateKey(ctx, keymeter.CreateKeyRequest{ExpiresInDays: keymeter.Ptr[int32](999)})
	var refused *keymeter.Error
	if errors.As(err, &refused) && refused.Code == keymeter.ErrorCodeInvalidRequest {
		fmt.Println("refused:", refused.Errors[0].Field, refused.Errors[0].Message)
	}
	second, err := customer.CreateKey(ctx, keymeter.CreateKeyRequest{
		Name:          keymeter.Ptr("Production Key"),
		ExpiresInDays: keymeter.Ptr[int32](90),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("created", second.Name)
	err = customer.RevokeKey(ctx, second.ID)
	fmt.Println("revoked:", err == nil)
	err = customer.RevokeKey(ctx, second.ID)
	fmt.Println("revoked before:", keymeter.IsCode(err, keymeter.ErrorCodeKeyNotFound))
}
