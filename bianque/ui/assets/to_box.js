() => setTimeout(() => {
  if (matchMedia('(hover: hover)').matches) document.querySelector('#bq-both textarea')?.focus();  // opens no keyboard
}, 50)
