bianque.ready.then(() => {
  if (bianque.turns().length && !(props.value || []).length) props.value = bianque.turns();
});
watch('value', () => bianque.keep(props.value || []));
