module github.com/keymeter/keymeter/sdk/go

go 1.24.0

require github.com/oapi-codegen/nullable v1.1.0
