//! Operators.

use longshore_proto::operators::v1 as pb;
use tonic::Request;

use super::{CALL_TIMEOUT, Client, bounded};
use crate::failure::Failure;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident, $attempt:literal;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// The refusal or the failed connection, in words.
                pub async fn $name(&mut self, message: pb::$request) -> Result<pb::$answer, Failure> {
                    let mut request = Request::new(message);
                    request.set_timeout(CALL_TIMEOUT);
                    let answer = bounded(self.operators.$name(request)).await;
                    Ok(answer.map_err(|s| Failure::call($attempt, s))?.into_inner())
                }
            )*
        }
    };
}

calls! {
    /// Lets one in.
    add_operator(AddOperatorRequest) -> AddOperatorResponse, "let the operator in";
    /// All of them.
    list_operators(ListOperatorsRequest) -> ListOperatorsResponse, "list operators";
    /// Another role.
    set_operator_role(SetOperatorRoleRequest) -> SetOperatorRoleResponse, "change the role";
    /// Other credentials.
    rotate_operator(RotateOperatorRequest) -> RotateOperatorResponse, "rotate the credentials";
    /// Out.
    remove_operator(RemoveOperatorRequest) -> RemoveOperatorResponse, "remove the operator";
}
