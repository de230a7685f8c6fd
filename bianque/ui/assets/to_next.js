() => setTimeout(() => document.querySelector('#bq-next')?.focus(), 50)
