// Paging walks through all accounts, and through an account's ledger.
package main

import (
	"context"
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
	for i := range 3 {
		account, err := operator.CreateAccount(ctx, keymeter.CreateAccountRequest{Name: fmt.Sprint("Customer ", i)})
		if err != nil {
			log.Fatal(err)
		}
		_, err = operator.GrantCredits(ctx, account.ID, keymeter.GrantRequest{
			Kind: keymeter.GrantKindPromotional, Credits: 500, Reason: "Welcome",
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	count := 0
	for account, err := range operator.Accounts(ctx, keymeter.ListAccountsParams{}) {
		if err != nil {
			log.Fatal(err)
		}
		if count++; count > 3 {
			break
		}
		fmt.Println(account.Name)
		for entry, err := range operator.Ledger(ctx, account.ID, keymeter.ListLedgerParams{}) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println("-", entry.Type, entry.Credits, entry.Cause)
		}
	}
}
